//! Where requests are taken, and how: `proxy.listen`, `proxy.tls` and `admin.listen`, which must all be different.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::diagnostics::Diagnostic;
use super::identity::Identity;
use super::reader::{Reader, Table};
use super::value::Value;
use super::{AdminConfig, ProxyConfig, values};

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As URLs and forwarding fields have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A listener, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address; port 0 picks a free one.
    pub address: SocketAddr,
    /// What is spoken there.
    pub scheme: Scheme,
}

/// `proxy.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where TLS is spoken; at least one address.
    pub listen: Vec<SocketAddr>,
    /// Where certificate and key are.
    pub files: TlsFiles,
    /// What is in the files; none where only the text of a cluster.toml was parsed.
    pub identity: Option<Identity>,
}

/// The files of an identity, which are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead to its root, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

impl ProxyConfig {
    /// Every listener of the proxy, those in the clear first.
    pub fn listeners(&self) -> Vec<Listener> {
        let with = |scheme| move |address: &SocketAddr| Listener { address: *address, scheme };
        let tls = self.tls.iter().flat_map(|tls| &tls.listen).map(with(Scheme::Https));
        self.listen.iter().map(with(Scheme::Http)).chain(tls).collect()
    }
}

/// Where the addresses stand, for messages about them.
#[derive(Default)]
pub(super) struct Places<'a> {
    proxy: Option<Value<'a>>,
    tls: Option<Value<'a>>,
}

/// Reads `listen` and `tls`.
pub(super) fn read<'a>(table: &mut Table<'a>, out: &mut ProxyConfig) -> Places<'a> {
    let mut places = Places { proxy: table.take("listen"), tls: None };
    let deaf = (!table.has("tls")).then_some("`proxy.listen` is empty: the proxy would hear nothing");
    if let Some(list) = places.proxy.as_ref().and_then(|value| addresses(value, deaf)) {
        out.listen = list;
    }
    table.below("tls", |table| {
        places.tls = table.take("listen");
        out.tls = tls(table, places.tls.as_ref());
    });
    places
}

fn tls(table: &mut Table<'_>, listen: Option<&Value<'_>>) -> Option<Tls> {
    let reader = table.reader;
    let (cert, key) = (table.take("cert"), table.take("key"));
    let needed = [("listen", listen.is_some()), ("cert", cert.is_some()), ("key", key.is_some())];
    for (key, _) in needed.iter().filter(|(_, there)| !there) {
        let message = format!("`proxy.tls` has no `{key}`");
        let help = "write `tls = { listen = [\"127.0.0.1:5443\"], cert = \"cert.pem\", key = \"key.pem\" }`";
        reader.report(Diagnostic::new(table.key.clone(), message).help(help));
    }
    let deaf = Some("`proxy.tls.listen` is empty: nobody could speak TLS to the proxy");
    let list = listen.and_then(|value| addresses(value, deaf));
    let file = |value: Option<Value<'_>>| reader.file(&value?);
    let (cert, key) = (file(cert), file(key));
    let files = TlsFiles { cert: cert?, key: key? };
    Some(Tls { listen: list?, files, identity: None })
}

/// Addresses to listen on: none twice unless its port is picked. What `empty` says of a list without any is a mistake.
fn addresses(value: &Value<'_>, empty: Option<&str>) -> Option<Vec<SocketAddr>> {
    let mut out: Vec<SocketAddr> = Vec::new();
    let elements = value.array("an array of addresses such as [\"127.0.0.1:5000\"]")?;
    if let Some(message) = empty.filter(|_| elements.is_empty()) {
        value.reject::<()>(message);
    }
    for element in elements {
        let Some(address) = element.parsed(values::address) else { continue };
        if address.port() != 0 && out.contains(&address) {
            element.reject::<()>(format!("{address} is listed twice"));
        }
        out.push(address);
    }
    Some(out)
}

/// Reports an address that two listeners have.
pub(super) fn differ(
    reader: &Reader<'_>,
    proxy: &ProxyConfig,
    places: &Places<'_>,
    admin: &AdminConfig,
    admin_at: Option<&Value<'_>>,
) {
    let same = |one: &SocketAddr, other: &SocketAddr| one.port() != 0 && one == other;
    let secure = proxy.tls.iter().flat_map(|tls| &tls.listen);
    for address in secure.filter(|address| proxy.listen.iter().any(|plain| same(plain, address))) {
        let message = format!("{address} cannot be in `proxy.listen` and in `proxy.tls.listen`");
        reader.report(at(places.tls.as_ref().or(places.proxy.as_ref()), message));
    }
    if proxy.listeners().iter().any(|one| same(&one.address, &admin.listen)) {
        let message = format!("{} is the proxy's address too", admin.listen);
        reader.report(match admin_at {
            Some(_) => at(admin_at, message),
            None => Diagnostic::whole(format!("{message}: name another as `admin.listen`")),
        });
    }
}

fn at(place: Option<&Value<'_>>, message: String) -> Diagnostic {
    match place {
        Some(value) => Diagnostic::new(value.span.clone(), message),
        None => Diagnostic::whole(message),
    }
}
