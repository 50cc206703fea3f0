//! Whether starting is hopeless: keeps count of failed starts, pool-wide.

use crate::event::{DeathCause, Retry};

/// Failed starts in a row, with no instance ready between, after which the service cannot start.
const HOPELESS_AFTER: u32 = 3;

/// What is known of starting instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts {
    failed_in_a_row: u32,
    verdict: Option<DeathCause>,
    closed: bool,
    spent: Option<DeathCause>,
}

impl Starts {
    /// Notes a start that failed for this cause.
    ///
    /// 1. The engine does not answer: says nothing about the service.
    /// 2. It cannot succeed until a person acts, or was not ready in time: enough.
    /// 3. It may succeed next time: enough after some in a row.
    pub(crate) fn failed(&mut self, cause: &DeathCause) {
        let enough = match cause {
            DeathCause::StartFailed { retry: Retry::EngineDown, .. } => return,
            DeathCause::StartFailed { retry: Retry::Futile, .. } | DeathCause::StartTimeout { .. } => true,
            DeathCause::StartFailed { retry: Retry::Later, .. }
            | DeathCause::Exited { .. }
            | DeathCause::OutOfMemory { .. }
            | DeathCause::Killed { .. }
            | DeathCause::Vanished
            | DeathCause::Unexplained
            | DeathCause::Hung
            | DeathCause::Stopped => false,
        };
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        if enough || self.verdict.is_some() || self.failed_in_a_row >= HOPELESS_AFTER {
            self.verdict = Some(cause.clone());
        }
    }

    /// An instance is ready, or an operator acted: all is forgotten.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Closes the service when starting is hopeless and nothing else gives hope. It stays closed until
    /// [`Starts::forget`].
    pub(crate) fn judge(&mut self, hope: bool) {
        self.closed |= self.verdict.is_some() && !hope;
    }

    /// All instances have ended, this one last, and none is replaced; or, with no cause, that is not so.
    pub(crate) fn set_spent(&mut self, cause: Option<DeathCause>) {
        self.spent = cause;
    }

    /// How the last instance ended, while none is replaced.
    pub(crate) fn spent(&self) -> Option<&DeathCause> {
        self.spent.as_ref()
    }

    /// Whether a judgement may be due, so that hope must be looked for.
    pub(crate) fn in_doubt(&self) -> bool {
        self.verdict.is_some() && !self.closed
    }

    /// Why no instance can be started or will be, while that is so.
    pub(crate) fn cannot(&self) -> Option<&DeathCause> {
        self.verdict.as_ref().filter(|_| self.closed).or(self.spent.as_ref())
    }
}
