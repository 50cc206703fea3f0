//! What is known of a job: its request, its state, its answer; and what of that a store finds it by.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::body::Body;
use crate::id::JobId;

/// Milliseconds since 1970: jobs outlive the process that took them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Millis {
    /// What the system's clock says.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Header fields in their order. A value's bytes are kept as the characters of the same numbers, so that any value
/// survives a JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Adds one behind the others.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.to_owned(), value.iter().map(|byte| char::from(*byte)).collect()));
    }

    /// Each name with its value's bytes. A character that is no byte, which only a file from elsewhere can hold, becomes `?`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Vec<u8>)> {
        self.0.iter().map(|(name, value)| {
            (name.as_str(), value.chars().map(|char| u8::try_from(char).unwrap_or(b'?')).collect())
        })
    }

    /// Without credentials.
    #[must_use]
    fn without_credentials(mut self) -> Self {
        self.0.retain(|(name, _)| !CREDENTIALS.iter().any(|secret| name.eq_ignore_ascii_case(secret)));
        self
    }

    fn size(&self) -> u64 {
        self.0.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
    }
}

/// Fields that say who somebody is: a job that has ended does not keep them.
pub const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

/// A request, but for its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The method.
    pub method: String,
    /// The target as the client wrote it, with scheme and host where it did.
    pub target: String,
    /// The fields as the client sent them, but for those that made it a job.
    pub headers: Fields,
    /// The address that it came from.
    #[serde(default)]
    pub peer: Option<String>,
    /// Whether it came over TLS.
    #[serde(default)]
    pub tls: bool,
    /// The name of the key that it came with.
    #[serde(default)]
    pub key: Option<String>,
}

impl Head {
    /// When it is not going to be made any more: without credentials.
    #[must_use]
    pub(crate) fn over(self) -> Self {
        Self { headers: self.headers.without_credentials(), ..self }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its fields.
    pub headers: Fields,
    /// Its body, if it has one.
    #[serde(default)]
    pub body: Option<Body>,
    /// What followed the body.
    #[serde(default)]
    pub trailers: Fields,
}

/// A client's own name for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// As the client wrote it.
    pub key: String,
    /// Whose it is: the same key of another client is another key.
    #[serde(default)]
    pub scope: String,
    /// A digest of the request that it was first used with.
    pub fingerprint: String,
}

/// Where the result is to be posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// To whom.
    pub url: String,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// When it is tried next, once the job has ended; nothing when it is over.
    #[serde(default)]
    pub next: Option<Millis>,
    /// When somebody took it.
    #[serde(default)]
    pub delivered_at: Option<Millis>,
    /// What went wrong the last time.
    #[serde(default)]
    pub error: Option<String>,
}

/// How long a job is kept, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ttl {
    /// Waiting: it expires if nobody has started it by then.
    pub input: u64,
    /// Ended: its result goes then. What is left of it goes after the same time again.
    pub result: u64,
}

impl Ttl {
    pub(crate) const fn input(self) -> Duration {
        Duration::from_millis(self.input)
    }

    pub(crate) const fn result(self) -> Duration {
        Duration::from_millis(self.result)
    }
}

/// A proxy's claim to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which proxy.
    pub owner: String,
    /// A proxy that has not said by then that it lives is dead.
    pub until: Millis,
}

/// Where a job is in its life, with what belongs there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    /// It waits.
    Queued {
        /// Its place: since when it counts as waiting.
        order: Millis,
        /// The proxy that has it in a service's queue.
        #[serde(default)]
        hold: Option<Hold>,
    },
    /// An instance works on it.
    Running {
        /// The place that it goes back to if it has to.
        order: Millis,
        /// Since when.
        started_at: Millis,
        /// The proxy that waits for the answer.
        hold: Hold,
    },
    /// It was answered.
    Done {
        /// Since when the last instance worked on it.
        started_at: Millis,
        /// When the answer was complete.
        finished_at: Millis,
        /// The answer.
        answer: Answer,
    },
    /// It was answered with an error of the server's, or not at all: then the answer is Longshore's own.
    Failed {
        /// Since when the last instance worked on it, if one did.
        #[serde(default)]
        started_at: Option<Millis>,
        /// When it ended.
        finished_at: Millis,
        /// The answer.
        answer: Answer,
    },
    /// Somebody has called it off.
    Cancelled {
        /// When.
        at: Millis,
    },
    /// Nobody started it in time, or its result is gone.
    Expired {
        /// When.
        at: Millis,
        /// When it had ended, if it had.
        #[serde(default)]
        finished_at: Option<Millis>,
    },
}

/// A state's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits.
    Queued,
    /// An instance works on it.
    Running,
    /// It was answered.
    Done,
    /// It was not, or with an error of the server's.
    Failed,
    /// Somebody has called it off.
    Cancelled,
    /// Its time was over.
    Expired,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled, Self::Expired];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether it waits or is at work.
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

impl std::str::FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.name() == text).ok_or(())
    }
}

/// All that is known of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Another one after each change; never the same twice.
    pub rev: u64,
    /// Whose instances work on it.
    pub service: String,
    /// What they are asked.
    pub request: Head,
    /// The request's body, as long as it may be needed.
    #[serde(default)]
    pub input: Option<Body>,
    /// Where it is in its life.
    pub state: State,
    /// How many instances have worked on it so far.
    #[serde(default)]
    pub attempts: u32,
    /// When it was taken.
    pub submitted_at: Millis,
    /// How long it is kept.
    pub ttl: Ttl,
    /// The client's own name for it.
    #[serde(default)]
    pub key: Option<IdempotencyKey>,
    /// A digest of its input, where identical input is one job.
    #[serde(default)]
    pub identity: Option<String>,
    /// Where its result is to be posted.
    #[serde(default)]
    pub callback: Option<Callback>,
    /// When it came from a file, if it did.
    #[serde(default)]
    pub imported_at: Option<Millis>,
}

/// What makes a job.
pub struct NewJob {
    /// Whose instances shall work on it.
    pub service: String,
    /// What they are asked.
    pub request: Head,
    /// The request's body.
    pub input: Option<Body>,
    /// How long it is kept.
    pub ttl: Ttl,
    /// The client's own name for it.
    pub key: Option<IdempotencyKey>,
    /// A digest of its input, where identical input is one job.
    pub identity: Option<String>,
    /// Where its result is to be posted.
    pub callback: Option<String>,
}

/// What a store finds a job by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facets {
    /// Its state's name.
    pub status: Status,
    /// Its place among those that wait and that no proxy has; nothing for others.
    pub queued: Option<Millis>,
    /// When something is due for it.
    pub due: Option<Millis>,
    /// What it takes, in bytes.
    pub bytes: u64,
}

/// What a record takes beside what can be counted.
const RECORD_BYTES: u64 = 512;

impl Job {
    /// What a store finds it by.
    pub fn facets(&self) -> Facets {
        let queued = match &self.state {
            State::Queued { order, hold: None } => Some(*order),
            State::Queued { hold: Some(_), .. }
            | State::Running { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => None,
        };
        Facets { status: self.status(), queued, due: Some(self.due()), bytes: self.bytes() }
    }

    /// Its state's name.
    pub const fn status(&self) -> Status {
        match self.state {
            State::Queued { .. } => Status::Queued,
            State::Running { .. } => Status::Running,
            State::Done { .. } => Status::Done,
            State::Failed { .. } => Status::Failed,
            State::Cancelled { .. } => Status::Cancelled,
            State::Expired { .. } => Status::Expired,
        }
    }

    /// Its answer, once it has one.
    pub const fn answer(&self) -> Option<&Answer> {
        match &self.state {
            State::Done { answer, .. } | State::Failed { answer, .. } => Some(answer),
            State::Queued { .. }
            | State::Running { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => None,
        }
    }

    /// When it ended, if it has.
    pub const fn ended_at(&self) -> Option<Millis> {
        match self.state {
            State::Queued { .. } | State::Running { .. } => None,
            State::Done { finished_at, .. } | State::Failed { finished_at, .. } => Some(finished_at),
            State::Cancelled { at } | State::Expired { at, .. } => Some(at),
        }
    }

    /// Whether it came with the key of this name.
    pub fn is_of(&self, owner: &str) -> bool {
        self.request.key.as_deref() == Some(owner)
    }

    /// The bodies that belong to it.
    pub fn bodies(&self) -> impl Iterator<Item = Body> {
        self.input.into_iter().chain(self.answer().and_then(|answer| answer.body))
    }

    /// Names that no two jobs may have.
    pub fn unique(&self) -> Vec<String> {
        let mut names = Vec::new();
        if let Some(key) = &self.key {
            names.push(format!("key:{}:{}:{}", self.service, key.scope, key.key));
        }
        if let Some(identity) = &self.identity {
            names.push(format!("same:{}:{identity}", self.service));
        }
        names
    }

    fn bytes(&self) -> u64 {
        let head = self.request.target.len() as u64 + self.request.headers.size();
        let answer = self.answer().map_or(0, |answer| answer.headers.size());
        RECORD_BYTES + head + answer + self.bodies().map(|body| body.length).sum::<u64>()
    }
}
