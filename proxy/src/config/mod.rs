//! cluster.toml: owns its keys, their defaults and every message about a mistake in it. A [`Config`] that exists is right.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | [`Config`] and the ways to get one |
//! | `service` | [`Service`] and its parts, with their defaults |
//! | `size` | the forms of `size`, in the file and over the API |
//! | `document` | reads the sections outside `[services]` |
//! | `service_table`, `service_parts`, `service_queue` | read `[services.NAME]` and the tables below it |
//! | `jobs`, `callbacks`, `export` | `[jobs]` and `[services.NAME.jobs]` |
//! | `limits`, `http2` | `[proxy.limits]`, `[proxy.http2]` |
//! | `listeners` | `proxy.listen`, `proxy.tls` |
//! | `identity`, `expiry` | the certificate and its key |
//! | `keys` | the file of api keys |
//! | `across` | what must hold between services: hosts, paths, the default |
//! | `reader` | tables; collects mistakes instead of stopping at the first |
//! | `value` | one value, read as what it should be |
//! | `network` | networks of addresses |
//! | `values` | durations, byte sizes, addresses, names, `${VAR}` |
//! | `unavailable` | the one table of keys and words that later versions know |
//! | `diagnostics`, `places` | mistakes, shown with file, line and caret; or told by line and pointer |
//! | `shown` | the settings of a service, as they are in force |
//!
//! Talks to nothing but the file system, and that only in [`Config::load`]; and to the resolver of names, where an
//! address is written with one.

mod across;
mod callbacks;
mod diagnostics;
mod document;
mod expiry;
mod export;
mod http2;
pub mod identity;
mod jobs;
pub mod keys;
mod limits;
mod listeners;
mod network;
mod places;
mod reader;
mod service;
mod service_parts;
mod service_queue;
mod service_table;
mod shown;
mod single;
mod size;
mod unavailable;
mod value;
mod values;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keys::ApiKeys;

pub use crate::telemetry::Telemetry;
pub use callbacks::{Callbacks, Receiver, Secrets};
pub use diagnostics::{Diagnostic, Diagnostics};
pub use export::{ExportTo, ScheduledExport};
pub use http2::Http2;
pub use jobs::{Credentials, JobStore, JobsConfig, JobsMode, ServiceJobs};
pub use limits::{Limits, Rate};
pub use listeners::{Listener, Scheme, Tls, TlsFiles};
pub use network::Network;
pub use places::{Place, shown_in};
pub use service::{
    Balance, Cache, Check, Health, Pattern, Protocol, Queue, Replay, ReplayMethods, RequestKey, Restart,
    Service, Source, default_spec,
};
pub use size::{MAX_SIZE, ServiceSize, SizeError, parse_size, size_instead_of, typed_size};
pub use values::{bytes as parse_bytes, duration as parse_duration};

/// Everything that one cluster.toml says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The cluster's name: scopes container names and labels.
    pub name: String,
    /// The listener for requests.
    pub proxy: ProxyConfig,
    /// The listener for operators.
    pub admin: AdminConfig,
    /// What runs instances.
    pub backend: BackendConfig,
    /// Asynchronous jobs.
    pub jobs: JobsConfig,
    /// Who gets traces.
    pub telemetry: Telemetry,
    /// In the order of the file; at least one.
    pub services: Vec<Service>,
}

/// `[proxy]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyConfig {
    /// Where requests are taken in the clear; at least one unless there is `tls`, all different. Port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Where they are taken over TLS.
    pub tls: Option<Tls>,
    /// A client whose header is not complete by then is cut off.
    pub request_header_timeout: Duration,
    /// A connection without a request is closed after so long.
    pub idle_timeout: Duration,
    /// Whether a client that has closed its sending side still waits for its answer; else it has left.
    pub half_close: bool,
    /// How long what was accepted is still answered for after SIGTERM.
    pub drain: Duration,
    /// Bytes of a body at the most.
    pub max_body: u64,
    /// Bytes of a body that are kept in memory; what is beyond goes to a temporary file.
    pub memory_per_body: u64,
    /// Bytes of a body in which its `model` is looked for.
    pub model_head: u64,
    /// Whether `X-Forwarded-*`, `Forwarded` and `Via` are added.
    pub forwarded: bool,
    /// Whether TRACE is passed on to instances; else it is refused.
    pub trace: bool,
    /// What clients may take.
    pub limits: Limits,
    /// What they may do on a connection of HTTP/2.
    pub http2: Http2,
    /// The keys of which a client must have one, if it must.
    pub api_keys: Option<ApiKeys>,
    /// Whether an instance gets to see the client's key.
    pub forward_api_key: bool,
    /// Peers that are believed about where a request comes from.
    pub trusted: Vec<Network>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5000))],
            tls: None,
            request_header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            half_close: false,
            drain: Duration::from_secs(30),
            max_body: 1 << 30,
            memory_per_body: 256 << 10,
            model_head: 16 << 20,
            forwarded: true,
            trace: false,
            limits: Limits::default(),
            http2: Http2::default(),
            api_keys: None,
            forward_api_key: false,
            trusted: Network::LOOPBACK.to_vec(),
        }
    }
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// Where operators are answered. Loopback where there is no `token_file`.
    pub listen: SocketAddr,
    /// A file that holds the token which the admin API demands.
    pub token_file: Option<PathBuf>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 5001)), token_file: None }
    }
}

impl AdminConfig {
    /// The token that the API demands, read from its file, if there is one.
    pub fn token(&self) -> Result<Option<String>, Diagnostics> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let wrong = |message: String| {
            let wrong = Diagnostic::whole(message).about("admin.token_file");
            Diagnostics::new("", "", vec![wrong.help("make one with `openssl rand -hex 32 > FILE`")])
        };
        let name = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| wrong(format!("cannot read the token of the admin API in {name}: {error}")))?;
        match text.trim() {
            "" => Err(wrong(format!("{name} has no token: the file is empty"))),
            token => Ok(Some(token.to_owned())),
        }
    }
}

/// `[backend]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendConfig {
    /// Which one.
    pub kind: BackendKind,
}

/// What runs instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// Docker where an engine answers, else processes.
    #[default]
    Auto,
    /// Containers.
    Docker,
    /// Child processes.
    Process,
}

impl Config {
    /// Reads and checks a file, with `${VAR}` taken from the environment, and the files of api keys, of the certificate,
    /// of the token and of secrets if it names them.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let name = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|error| diagnostics::cannot_read(&name, &error.to_string()))?;
        let text = diagnostics::text(&name, bytes)?;
        let env = |variable: &str| std::env::var(variable).ok();
        let (mut config, files) = document::parse(&text, &name, &env)?;
        config.read_files().map_err(|wrong| wrong.named_in(&name, &text, &files))?;
        Ok(config)
    }

    /// Reads what is in the files that it names.
    fn read_files(&mut self) -> Result<(), Diagnostics> {
        if let Some(keys) = &mut self.proxy.api_keys {
            keys.list = keys::load(&keys.file)?;
        }
        if let Some(tls) = &mut self.proxy.tls {
            tls.identity = Some(identity::load(&tls.files)?);
        }
        self.admin.token()?;
        if let Some(secrets) = &mut self.jobs.callbacks.secrets {
            secrets.list = callbacks::load(&secrets.file)?;
        }
        self.telemetry.check().map_err(|why| {
            let wrong =
                Diagnostic::whole(why).help("`telemetry.ca` names a PEM file of authorities to believe");
            Diagnostics::new("", "", vec![wrong.about("telemetry.ca")])
        })
    }

    /// Checks a text; api keys and certificates are not in it. `name` is the file's path as messages show it; relative paths in the text resolve against its
    /// folder. `env` tells what a `${VAR}` stands for.
    pub fn parse(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Diagnostics> {
        document::parse(text, name, env).map(|(config, _)| config)
    }

    /// One service named after its image, everything else at its default: `longshore run IMAGE`.
    pub fn single(
        image: &str,
        port: Option<u16>,
        size: Option<u32>,
        command: Option<Vec<String>>,
    ) -> Result<Self, Diagnostics> {
        single::config(image, port, size, command)
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| &*service.name == name)
    }
}
