//! `[jobs]` and `[services.NAME.jobs]`: where jobs are kept, which requests become one, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use longshore_jobs::RedisStore;

use super::callbacks::{self, Callbacks};
use super::export::{self, ScheduledExport};
use super::reader::{Reader, Table};
use super::value::Value;
use super::values;

/// Where jobs are kept when the file does not say.
const FOLDER: &str = "longshore-data";

/// The same, as the file would say it.
const DEFAULT: &str = "file:longshore-data";

/// `[jobs]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobsConfig {
    /// Where they are kept.
    pub store: JobStore,
    /// The path on the proxy's listeners below which they are found: begins with `/` and does not end with one.
    pub path: String,
    /// Bytes of records and bodies together at the most.
    pub max_bytes: u64,
    /// In a shared store: a proxy that has not been heard of for so long is dead, and its jobs are taken over.
    pub lease: Duration,
    /// Whom results may be posted to.
    pub callbacks: Callbacks,
    /// Where all jobs are written every so often, if anywhere.
    pub export: Option<ScheduledExport>,
}

/// Where jobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStore {
    /// In a folder of this machine.
    File {
        /// Which.
        folder: PathBuf,
        /// Whether it is another than the default one, which is made when the first job comes.
        named: bool,
    },
    /// In memory, for as long as the process lives.
    Memory,
    /// In a Redis, which several proxies may share.
    Redis(String),
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            store: JobStore::File { folder: FOLDER.into(), named: false },
            path: "/_jobs".to_owned(),
            max_bytes: 10 << 30,
            lease: Duration::from_secs(30),
            callbacks: Callbacks::default(),
            export: None,
        }
    }
}

/// `[services.NAME.jobs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceJobs {
    /// Which requests become jobs.
    pub mode: JobsMode,
    /// A job that nobody has started by then is dropped as expired.
    pub input_ttl: Duration,
    /// A result is kept for so long.
    pub result_ttl: Duration,
    /// What becomes of the credentials that a request has.
    pub credentials: Credentials,
}

/// What becomes of the credentials that a request has (`Authorization`, `Cookie`), while it is kept as a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// They are kept until the job has ended: an instance may need them.
    Keep,
    /// They are not kept at all.
    Drop,
}

/// Which requests become jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobsMode {
    /// None.
    Off,
    /// Those whose client asks for it.
    Prefer,
    /// All.
    Always,
    /// All; the client repeats the same request until it is answered.
    Poll,
}

impl Default for ServiceJobs {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        let credentials = Credentials::Keep;
        Self { mode: JobsMode::Prefer, input_ttl: hour, result_ttl: hour, credentials }
    }
}

/// The defaults of a file: its folder is where relative paths begin.
pub(super) fn default(reader: &Reader<'_>) -> JobsConfig {
    let store = JobStore::File { folder: reader.path(FOLDER), named: false };
    JobsConfig { store, ..JobsConfig::default() }
}

pub(super) fn read(table: &mut Table<'_>, out: &mut JobsConfig) {
    let reader = table.reader;
    table.set("store", &mut out.store, |value| value.parsed(|text| store(text, reader)));
    table.set("path", &mut out.path, |value| value.parsed(path));
    table.set("max_bytes", &mut out.max_bytes, Value::bytes);
    table.set("lease", &mut out.lease, Value::timeout);
    table.set("callbacks", &mut out.callbacks, callbacks::read);
    table.set_some("export", &mut out.export, export::read);
}

fn store(text: &str, reader: &Reader<'_>) -> Result<JobStore, String> {
    let wanted = "a store is \"file:FOLDER\", \"memory:\" or \"redis://HOST:PORT/DATABASE\"";
    match text.split_once(':') {
        Some(("file", folder)) if !folder.is_empty() => {
            Ok(JobStore::File { folder: reader.path(folder), named: text != DEFAULT })
        }
        Some(("memory", "")) => Ok(JobStore::Memory),
        Some(("redis" | "unix" | "redis+unix", rest)) if rest.starts_with("//") => {
            let understood = RedisStore::understands(text);
            understood.map_err(|why| format!("{why}; {wanted}"))?;
            Ok(JobStore::Redis(text.to_owned()))
        }
        Some(("rediss", _)) => Err("Redis over TLS is not available: reach it through a tunnel".to_owned()),
        Some(_) | None => Err(wanted.to_owned()),
    }
}

fn path(text: &str) -> Result<String, String> {
    let prefix = values::prefix(text)?;
    if prefix == "/" { Err("the path of the jobs would hide every service".to_owned()) } else { Ok(prefix) }
}

pub(super) fn read_service(table: &mut Table<'_>, out: &mut ServiceJobs) {
    let modes = [
        ("off", JobsMode::Off),
        ("prefer", JobsMode::Prefer),
        ("always", JobsMode::Always),
        ("poll", JobsMode::Poll),
    ];
    table.set("mode", &mut out.mode, |value| value.word(&modes));
    table.set("input_ttl", &mut out.input_ttl, Value::timeout);
    table.set("result_ttl", &mut out.result_ttl, Value::timeout);
    let credentials = [("keep", Credentials::Keep), ("drop", Credentials::Drop)];
    table.set("credentials", &mut out.credentials, |value| value.word(&credentials));
}
