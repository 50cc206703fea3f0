//! What happens in a cluster, told to whoever listens: instances that come and go, sizes, replays, configurations.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | [`Event`], and [`Events`], which keeps the last ones |
//! | `feed` | [`Feed`], by which a service tells its own |
//! | `follow` | one listener, who may be slow |
//!
//! Nobody waits for a listener: each has the same number of events before it, and one that falls behind further loses
//! the oldest and is told how many.

mod feed;
mod follow;

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use tokio::sync::broadcast;

pub use feed::Feed;
pub use follow::{Asked, Told};

use crate::clock::Clock;

/// So many of the last events are kept for whoever comes later.
pub const KEPT: usize = 512;

/// A listener may be so many events behind.
const BEHIND: usize = 1024;

/// Of a text, so many bytes are told: a death may come with much of a log.
const LONGEST_TEXT: usize = 2048;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its name: unique, and ordered within one process.
    pub id: String,
    /// When, in RFC 3339.
    pub at: String,
    /// What.
    pub kind: Kind,
    /// The service that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The instance that it is about, as `GET /services` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The request that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What there is to say about it, for people.
    pub text: String,
    /// The same for programs, where there is more than the other fields say.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Json>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An instance is being started.
    InstanceStarting,
    /// It takes requests for the first time.
    InstanceReady,
    /// It has died, or was found to be hung.
    InstanceDied,
    /// It was stopped, as it should be.
    InstanceStopped,
    /// It was put in standby.
    InstancePaused,
    /// It was taken out of standby.
    InstanceResumed,
    /// Another number of instances is wanted.
    SizeChanged,
    /// A request goes back to the head of the queue.
    RequestReplayed,
    /// A request has outlived too many instances.
    RequestQuarantined,
    /// An answer was cut off in its client's sight.
    StreamCut,
    /// The configuration was read again, and is in force.
    ConfigApplied,
    /// The configuration was read again, and is not in force.
    ConfigRefused,
    /// Another process serves from now on.
    TakenOver,
    /// The process ends.
    ShuttingDown,
    /// Something that this program does not know: a newer one has told it.
    #[serde(other)]
    Unknown,
}

impl Kind {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InstanceStarting => "instance-starting",
            Self::InstanceReady => "instance-ready",
            Self::InstanceDied => "instance-died",
            Self::InstanceStopped => "instance-stopped",
            Self::InstancePaused => "instance-paused",
            Self::InstanceResumed => "instance-resumed",
            Self::SizeChanged => "size-changed",
            Self::RequestReplayed => "request-replayed",
            Self::RequestQuarantined => "request-quarantined",
            Self::StreamCut => "stream-cut",
            Self::ConfigApplied => "config-applied",
            Self::ConfigRefused => "config-refused",
            Self::TakenOver => "taken-over",
            Self::ShuttingDown => "shutting-down",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of something that happens, beside when.
#[derive(Debug, Default)]
pub struct News {
    /// The instance.
    pub instance: Option<String>,
    /// The request.
    pub request_id: Option<String>,
    /// For people.
    pub text: String,
    /// For programs.
    pub details: Map<String, Json>,
}

/// The events of a cluster.
#[derive(Debug)]
pub struct Events {
    clock: Clock,
    /// Tells one process's events from another's, so that nobody goes on in the wrong list.
    process: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: u64,
    kept: VecDeque<(u64, Arc<Event>)>,
    /// None when nothing more is told.
    listeners: Option<broadcast::Sender<Arc<Event>>>,
}

impl Events {
    /// Without any yet.
    pub fn new(clock: Clock) -> Arc<Self> {
        let listeners = Some(broadcast::Sender::new(BEHIND));
        let process = (clock.unix_now() * 1000.0) as u64;
        let state = State { last: 0, kept: VecDeque::with_capacity(KEPT), listeners };
        Arc::new(Self { clock, process, state: Mutex::new(state) })
    }

    /// Tells something of the cluster as a whole.
    pub fn tell(&self, kind: Kind, text: impl Into<String>) {
        self.publish(kind, None, News { text: text.into(), ..News::default() });
    }

    /// Tells that nothing more will be told, which ends every listener's stream.
    pub fn end(&self, kind: Kind, text: &str) {
        self.tell(kind, text);
        self.close();
    }

    /// Ends every listener's stream.
    pub fn close(&self) {
        self.state.lock().listeners = None;
    }

    fn publish(&self, kind: Kind, service: Option<&str>, news: News) {
        let News { instance, request_id, mut text, details } = news;
        shorten(&mut text);
        let at =
            jiff::Timestamp::from_millisecond((self.clock.unix_now() * 1000.0) as i64).unwrap_or_default();
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        let event = Arc::new(Event {
            id: format!("{}-{number}", self.process),
            at: at.to_string(),
            kind,
            service: service.map(str::to_owned),
            instance,
            request_id,
            text,
            details,
        });
        if state.kept.len() == KEPT {
            state.kept.pop_front();
        }
        state.kept.push_back((number, event.clone()));
        if let Some(listeners) = &state.listeners {
            // Nobody may listen.
            let _ = listeners.send(event);
        }
    }
}

fn shorten(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_they_are_named() {
        for kind in [
            Kind::InstanceStarting,
            Kind::InstanceReady,
            Kind::InstanceDied,
            Kind::InstanceStopped,
            Kind::InstancePaused,
            Kind::InstanceResumed,
            Kind::SizeChanged,
            Kind::RequestReplayed,
            Kind::RequestQuarantined,
            Kind::StreamCut,
            Kind::ConfigApplied,
            Kind::ConfigRefused,
            Kind::TakenOver,
            Kind::ShuttingDown,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(serde_json::from_str::<Kind>("\"from-tomorrow\"").unwrap(), Kind::Unknown);
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        let mut text = "x".repeat(LONGEST_TEXT - 1) + "ää";
        shorten(&mut text);
        assert_eq!(text, "x".repeat(LONGEST_TEXT - 1) + "…");
    }
}
