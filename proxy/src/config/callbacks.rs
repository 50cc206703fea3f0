//! `jobs.callbacks`: whom the results of jobs may be posted to, how that is signed, and how long it is tried.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Network;
use super::diagnostics::{Diagnostic, Diagnostics};
use super::reader::{Reader, Table};
use super::value::Value;
use super::values;

/// A shorter secret can be found by trying.
const SHORTEST_SECRET: usize = 16;

/// How a secret begins that is written in base64, as the libraries of Standard Webhooks have it.
const PREFIX: &str = "whsec_";

/// The key that names the file of secrets.
const SECRET_FILE: &str = "jobs.callbacks.secret_file";

/// `jobs.callbacks`, in full or as the list of its hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callbacks {
    /// Whom a result may be posted to; nobody if empty.
    pub hosts: Vec<Receiver>,
    /// What signs them, if they are signed.
    pub secrets: Option<Secrets>,
    /// How long one attempt may take, from the look for its address to the head of the answer.
    pub timeout: Duration,
    /// How often it is tried.
    pub attempts: u32,
    /// The delay after the first failure. Each further one doubles it.
    pub backoff_initial: Duration,
    /// The longest delay.
    pub backoff_max: Duration,
}

impl Default for Callbacks {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            secrets: None,
            timeout: Duration::from_secs(30),
            attempts: 12,
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(600),
        }
    }
}

/// Who may be posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// A host by its name, at any port or at one.
    Name {
        /// In lower case; behind a `*.` all names below it.
        name: String,
        /// Whether it is the names below it.
        below: bool,
        /// At this port only.
        port: Option<u16>,
    },
    /// Addresses, at any port or at one: as a host, and as what a listed name leads to.
    Network {
        /// Which.
        network: Network,
        /// At this port only.
        port: Option<u16>,
    },
}

/// What messages are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The file, a secret a line.
    pub file: PathBuf,
    /// What is in it. Each signs, so that receivers can go from one to the next.
    pub list: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("file", &self.file).finish_non_exhaustive()
    }
}

pub(super) fn read(value: &Value<'_>) -> Option<Callbacks> {
    let mut out = Callbacks::default();
    if value.is_table() {
        let mut table = value.table()?;
        read_table(&mut table, &mut out);
        table.finish();
        return Some(out);
    }
    Some(Callbacks { hosts: hosts(value)?, ..out })
}

fn read_table(table: &mut Table<'_>, out: &mut Callbacks) {
    let reader: &Reader<'_> = table.reader;
    table.set("hosts", &mut out.hosts, hosts);
    table.set_some("secret_file", &mut out.secrets, |value| {
        reader.file(value).map(|file| Secrets { file, list: Vec::new() })
    });
    table.set("timeout", &mut out.timeout, Value::timeout);
    table.set("attempts", &mut out.attempts, |value| value.integer(1..=1000));
    table.below("backoff", |table| {
        table.set("initial", &mut out.backoff_initial, Value::timeout);
        let max = table.take("max");
        // A maximum that nobody wrote gives way to a larger beginning.
        out.backoff_max = match max.as_ref().map(Value::timeout) {
            Some(max) => max.unwrap_or(Duration::MAX),
            None => out.backoff_max.max(out.backoff_initial),
        };
        if let Some(value) = max.filter(|_| out.backoff_max < out.backoff_initial) {
            value.reject::<()>(format!("`{}` is below `initial`", value.path()));
        }
    });
}

fn hosts(value: &Value<'_>) -> Option<Vec<Receiver>> {
    value.list("an array of hosts such as [\"hooks.example.com\"]", |one| one.parsed(receiver))
}

/// `hooks.example.com`, `*.example.com`, `10.0.0.0/8`, `[::1]`, each with `:PORT` behind it or without.
fn receiver(text: &str) -> Result<Receiver, String> {
    let wanted = "a host is `hooks.example.com`, `*.example.com`, an address or a network such as `10.0.0.0/8`, and may \
                  have a `:PORT`, but no scheme and no path";
    let unbracketed = |host: &str| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(host).to_owned()
    };
    if let Ok(network) = Network::parse(&unbracketed(text)) {
        return Ok(Receiver::Network { network, port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse().ok().filter(|port| *port > 0);
            (host, Some(port.ok_or_else(|| wanted.to_owned())?))
        }
        None => (text, None),
    };
    if let Ok(network) = Network::parse(&unbracketed(host)) {
        return Ok(Receiver::Network { network, port });
    }
    let (name, below) = host.strip_prefix("*.").map_or((host, false), |name| (name, true));
    // What ends in a number is an address that is none.
    let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    match values::host(name) {
        Ok(name) if !number && !name.starts_with('[') => Ok(Receiver::Name { name, below, port }),
        Ok(_) | Err(_) => Err(wanted.to_owned()),
    }
}

impl Receiver {
    /// Whether a URL may have this host and port.
    pub fn names(&self, host: &str, port: u16) -> bool {
        match self {
            Self::Name { name, below, port: at } => {
                let same = match below {
                    false => host == name,
                    true => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
                };
                same && at.is_none_or(|at| at == port)
            }
            Self::Network { .. } => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                bare.parse().is_ok_and(|address| self.has(address, port))
            }
        }
    }

    /// Whether it lists this address.
    pub fn has(&self, address: IpAddr, port: u16) -> bool {
        match self {
            Self::Name { .. } => false,
            Self::Network { network, port: at } => {
                network.contains(address) && at.is_none_or(|at| at == port)
            }
        }
    }
}

/// Reads a file of secrets.
pub(super) fn load(path: &Path) -> Result<Vec<Vec<u8>>, Diagnostics> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let diagnostic =
            Diagnostic::whole(format!("cannot read the secrets of callbacks in {name}: {error}"));
        let help =
            "`jobs.callbacks.secret_file` names a file with a secret in it; `openssl rand -hex 32` makes one";
        Diagnostics::new("", "", vec![diagnostic.help(help).about(SECRET_FILE)])
    })?;
    let wrong = |message: String| {
        let help = format!("a secret is {PREFIX}BASE64, or any text of {SHORTEST_SECRET} bytes or more");
        Diagnostics::new("", "", vec![Diagnostic::whole(message).help(help).about(SECRET_FILE)])
    };
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let secrets: Vec<(usize, Option<Vec<u8>>)> = lines
        .map(|(number, line)| {
            let secret = match line.strip_prefix(PREFIX) {
                Some(text) => BASE64.decode(text).ok(),
                None => Some(line.as_bytes().to_vec()),
            };
            (number, secret.filter(|secret| secret.len() >= SHORTEST_SECRET))
        })
        .collect();
    if let Some((number, _)) = secrets.iter().find(|(_, secret)| secret.is_none()) {
        return Err(wrong(format!("line {number} of {name} is no secret")));
    }
    if secrets.is_empty() {
        return Err(wrong(format!("{name} has no secret")));
    }
    Ok(secrets.into_iter().filter_map(|(_, secret)| secret).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_a_name_or_an_address_with_a_port_or_without() {
        for (listed, host, port, allowed) in [
            ("hooks.example.com", "hooks.example.com", 443, true),
            ("HOOKS.example.com", "hooks.example.com", 81, true),
            ("hooks.example.com:443", "hooks.example.com", 443, true),
            ("hooks.example.com:443", "hooks.example.com", 80, false),
            ("hooks.example.com", "evil.hooks.example.com", 443, false),
            ("hooks.example.com", "hooks.example.com.evil.org", 443, false),
            ("*.example.com", "a.b.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("*.example.com", "evilexample.com", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("10.0.0.0/8:8080", "10.1.2.3", 8080, true),
            ("10.0.0.0/8:8080", "10.1.2.3", 80, false),
            ("127.0.0.1:9000", "127.0.0.1", 9000, true),
            ("127.0.0.1", "127.0.0.2", 9000, false),
            ("[::1]:9000", "[::1]", 9000, true),
            ("::1", "[::1]", 9000, true),
            ("127.0.0.1", "[::ffff:127.0.0.1]", 80, true),
            ("localhost", "localhost", 80, true),
        ] {
            let receiver = receiver(listed).expect(listed);
            assert_eq!(receiver.names(host, port), allowed, "{listed}: {host}:{port}");
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for wrong in [
            "",
            "*",
            "*.",
            "http://a",
            "a/b",
            "a:0",
            "a:x",
            "a:70000",
            "u@a",
            "10.0.0.1/8",
            "300.1.1.1",
            "[x]",
            "a b",
        ] {
            assert!(receiver(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_read_line_by_line_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(&path).map_err(|wrong| wrong.to_string())
        };
        let text = "# old\n0123456789abcdef\n\nwhsec_MDEyMzQ1Njc4OWFiY2RlZg==\n";
        assert_eq!(load(text), Ok(vec![b"0123456789abcdef".to_vec(), b"0123456789abcdef".to_vec()]));
        let secrets = Secrets { file: path.clone(), list: vec![b"0123456789abcdef".to_vec()] };
        assert!(!format!("{secrets:?}").contains("48"), "{secrets:?}");
        for (text, told) in [
            ("", "has no secret"),
            ("# nothing\n", "has no secret"),
            ("\nshort\n", "line 2 of"),
            ("whsec_!!\n", "line 1 of"),
        ] {
            assert!(load(text).is_err_and(|wrong| wrong.contains(told)), "{text}");
        }
        assert!(super::load(&folder.path().join("none")).unwrap_err().to_string().contains("openssl rand"));
    }
}
