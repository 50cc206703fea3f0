//! The probing of one instance: when the next probe is due, or since when one is under way.

use std::time::Duration;

use crate::event::Health;
use crate::time::Time;

/// A probe that has not ended after this long never will.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// At most one probe of an instance is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    phase: Phase,
    /// Failed ones in a row.
    pub(crate) failures: u32,
    /// What the last one saw.
    pub(crate) last: Option<Health>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    // `hurried`: a mishap asked for it.
    Due { at: Time, hurried: bool },
    // `stale`: something came after it began, so that its good news says nothing; `owed`: it was a mishap.
    UnderWay { since: Time, hurried: bool, stale: bool, owed: bool },
}

/// A probe that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// When it began.
    pub(crate) since: Time,
    /// Whether suspicion arose after it began.
    pub(crate) stale: bool,
    /// What the one before it saw.
    pub(crate) before: Option<Health>,
}

impl Probe {
    /// The first probe is due then.
    pub(crate) fn due(at: Time) -> Self {
        Self { phase: Phase::Due { at, hurried: false }, failures: 0, last: None }
    }

    /// When to look: the next is due, or the present one is lost.
    pub(crate) fn wake(&self) -> Time {
        match self.phase {
            Phase::Due { at, .. } => at,
            Phase::UnderWay { since, .. } => since + LOST_AFTER,
        }
    }

    /// Begins the next one if it is due.
    pub(crate) fn begin(&mut self, now: Time) -> bool {
        match self.phase {
            Phase::Due { at, hurried } if at <= now => {
                self.phase = Phase::UnderWay { since: now, hurried, stale: false, owed: false };
                true
            }
            Phase::Due { .. } | Phase::UnderWay { .. } => false,
        }
    }

    /// Whether one is under way that is lost.
    pub(crate) fn is_lost(&self, now: Time) -> bool {
        match self.phase {
            Phase::Due { .. } => false,
            Phase::UnderWay { since, .. } => since + LOST_AFTER <= now,
        }
    }

    /// The present one ended and saw this, if one was under way. The caller says when the next is due.
    pub(crate) fn end(&mut self, saw: Health) -> Option<Ended> {
        match self.phase {
            Phase::Due { .. } => None,
            Phase::UnderWay { since, stale, .. } => {
                let before = self.last.replace(saw);
                Some(Ended { since, stale, before })
            }
        }
    }

    /// The next one is due then.
    pub(crate) fn next(&mut self, at: Time) {
        let owed = match self.phase {
            Phase::Due { hurried, .. } => hurried,
            Phase::UnderWay { owed, .. } => owed,
        };
        self.phase = Phase::Due { at, hurried: owed };
    }

    /// The next one is due by then, if none is under way. Says whether that brought it forward.
    pub(crate) fn due_by(&mut self, by: Time) -> bool {
        match &mut self.phase {
            Phase::Due { at, .. } if by < *at => {
                *at = by;
                true
            }
            Phase::Due { .. } | Phase::UnderWay { .. } => false,
        }
    }

    /// A mishap (a request was lost): a probe that begins after it must tell, at once or when the present one has
    /// ended. Losses that follow while that probe is under way are taken for the same mishap.
    pub(crate) fn hurry(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Due { at, hurried } => (*at, *hurried) = ((*at).min(now), true),
            Phase::UnderWay { hurried, stale, owed, .. } => {
                *stale |= !*hurried;
                *owed |= !*hurried;
            }
        }
    }

    /// It is to show that it serves still, or again, without having come to grief: a probe that begins after this tells.
    pub(crate) fn anew(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Due { at, .. } => *at = (*at).min(now),
            Phase::UnderWay { stale, .. } => *stale = true,
        }
    }
}
