//! Whether silence at work means a hung instance.
//!
//! A server that does one thing at a time (many model servers: one Python process, one inference) cannot answer a
//! probe while it works, and to kill it for that would lose the work, on every instance in turn. A server that answers
//! probes at work and falls silent is hung. Which kind this is, is learned:
//!
//! 1. An instance answered a probe while it held a request from before the probe began until well after its answer:
//!    these instances answer at work.
//! 2. An instance was silent to a probe while it held a request, and answered that request afterwards: these
//!    instances are silent at work. This outweighs any number of (1), which a response that is written at once and
//!    read slowly can feign.
//! 3. A new generation (another image, another command) is learned anew.

use std::time::Duration;

/// A request must be held so much longer than the probe took, or news that overtook other news would teach (1).
pub(crate) const MARGIN: Duration = Duration::from_millis(100);

/// What is known of how instances behave at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Nothing yet.
    #[default]
    Unknown,
    /// They answer probes.
    Answers,
    /// They may be silent and well.
    Silent,
}

impl Habit {
    /// Rule 1.
    pub(crate) fn answered_at_work(&mut self) {
        match self {
            Self::Unknown | Self::Answers => *self = Self::Answers,
            Self::Silent => {}
        }
    }

    /// Rule 2.
    pub(crate) fn was_silent_and_well(&mut self) {
        *self = Self::Silent;
    }

    /// Whether silence at work is a failure.
    pub(crate) fn silence_is_failure(self) -> bool {
        match self {
            Self::Answers => true,
            Self::Unknown | Self::Silent => false,
        }
    }
}
