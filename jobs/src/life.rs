//! The only legal changes of a job. Each takes the time as an argument, gives the job as it is afterwards, and leaves
//! the store to find out whether somebody else was faster.

use crate::body::Body;
use crate::id::JobId;
use crate::job::{Answer, Callback, Hold, Job, Millis, NewJob, State, Status};

/// A server error and worse: the job has failed.
const FAILED_FROM: u16 = 500;

/// A change that the job's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {} cannot be {wanted}", .from.name())]
pub struct Illegal {
    /// The job's state.
    pub from: Status,
    /// What was wanted, as a participle.
    pub wanted: &'static str,
}

/// What is due for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lapse {
    /// Nothing yet.
    Nothing,
    /// The record becomes this one: it expired, or the proxy that had it is dead.
    Becomes(Box<Job>),
    /// Its result is to be posted.
    CallBack,
    /// Nothing is left to keep.
    Forget,
}

impl Job {
    /// A job that waits.
    pub fn new(new: NewJob, now: Millis) -> Self {
        let callback = new.callback.map(|url| Callback {
            url,
            attempts: 0,
            next: None,
            delivered_at: None,
            error: None,
        });
        Self {
            id: JobId::new(),
            rev: next_rev(),
            service: new.service,
            request: new.request,
            input: new.input,
            state: State::Queued { order: now, hold: None },
            attempts: 0,
            submitted_at: now,
            ttl: new.ttl,
            key: new.key,
            identity: new.identity,
            callback,
            imported_at: None,
        }
    }

    /// A proxy takes it into a service's queue.
    pub fn held(&self, owner: &str, until: Millis) -> Result<Self, Illegal> {
        match &self.state {
            State::Queued { order, hold: None } => {
                let hold = Some(Hold { owner: owner.to_owned(), until });
                Ok(self.with(State::Queued { order: *order, hold }))
            }
            State::Queued { .. }
            | State::Running { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => Err(self.illegal("taken")),
        }
    }

    /// An instance begins to work on it.
    pub fn started(&self, now: Millis) -> Result<Self, Illegal> {
        match &self.state {
            State::Queued { order, hold: Some(hold) } => {
                let state = State::Running { order: *order, started_at: now, hold: hold.clone() };
                Ok(Self { attempts: self.attempts + 1, ..self.with(state) })
            }
            State::Queued { hold: None, .. }
            | State::Running { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => Err(self.illegal("started")),
        }
    }

    /// The proxy that has it lives.
    pub fn renewed(&self, until: Millis) -> Result<Self, Illegal> {
        let state = match self.state.clone() {
            State::Queued { order, hold: Some(hold) } => {
                State::Queued { order, hold: Some(Hold { until, ..hold }) }
            }
            State::Running { order, started_at, hold } => {
                State::Running { order, started_at, hold: Hold { until, ..hold } }
            }
            State::Queued { hold: None, .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => return Err(self.illegal("renewed")),
        };
        Ok(self.with(state))
    }

    /// The proxy that had it gives it back, or is dead: it waits again, at its old place.
    pub fn released(&self) -> Result<Self, Illegal> {
        match &self.state {
            State::Queued { order, hold: Some(_) } | State::Running { order, .. } => {
                Ok(self.with(State::Queued { order: *order, hold: None }))
            }
            State::Queued { hold: None, .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => Err(self.illegal("released")),
        }
    }

    /// It is answered, after `attempts` instances in this run. What is done needs its input no more; what has failed may be
    /// tried again.
    pub fn finished(&self, answer: Answer, attempts: u32, now: Millis) -> Result<Self, Illegal> {
        let started_at = match &self.state {
            State::Running { started_at, .. } => Some(*started_at),
            State::Queued { hold: Some(_), .. } => None,
            State::Queued { hold: None, .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => return Err(self.illegal("finished")),
        };
        let failed = answer.status >= FAILED_FROM;
        let state = match (failed, started_at) {
            (false, started_at) => {
                State::Done { started_at: started_at.unwrap_or(now), finished_at: now, answer }
            }
            (true, started_at) => State::Failed { started_at, finished_at: now, answer },
        };
        let mut job = self.with(state);
        job.attempts += attempts.saturating_sub(u32::from(started_at.is_some()));
        if !failed {
            job = job.over();
        }
        Ok(job.calling(now))
    }

    /// Somebody calls it off.
    pub fn cancelled(&self, now: Millis) -> Result<Self, Illegal> {
        if !self.status().is_pending() {
            return Err(self.illegal("cancelled"));
        }
        let job = Self { identity: None, ..self.with(State::Cancelled { at: now }) };
        Ok(job.over().calling(now))
    }

    /// What has failed waits again, behind the others.
    pub fn retried(&self, now: Millis) -> Result<Self, Illegal> {
        if self.status() != Status::Failed {
            return Err(self.illegal("tried again"));
        }
        let mut job = self.with(State::Queued { order: now, hold: None });
        if let Some(callback) = &mut job.callback {
            *callback =
                Callback { attempts: 0, next: None, delivered_at: None, error: None, ..callback.clone() };
        }
        Ok(job)
    }

    /// Identical input is another job from now on: a failure is told once, then the next request tries again.
    #[must_use]
    pub fn disowned(&self) -> Self {
        Self { identity: None, rev: next_rev(), ..self.clone() }
    }

    /// The callback is being tried: whoever else looks leaves it alone until then.
    #[must_use]
    pub fn calling_back(&self, until: Millis) -> Self {
        self.with_callback(|callback| {
            callback.attempts += 1;
            callback.next = Some(until);
        })
    }

    /// The callback has to wait until then, though it is due: too many are under way.
    #[must_use]
    pub fn calling_later(&self, until: Millis) -> Self {
        self.with_callback(|callback| callback.next = Some(until))
    }

    /// What came of the callback: `Err` is why it failed, and when it is tried again, if it is.
    #[must_use]
    pub fn called_back(&self, outcome: Result<Millis, (String, Option<Millis>)>) -> Self {
        self.with_callback(|callback| match outcome {
            Ok(at) => {
                (callback.next, callback.delivered_at, callback.error) = (None, Some(at), None);
            }
            Err((error, next)) => (callback.next, callback.error) = (next, Some(error)),
        })
    }

    /// It comes from a file: what another proxy had begun waits, and it is kept as long as if it had come now.
    #[must_use]
    pub(crate) fn imported(self, now: Millis) -> Self {
        let waiting = self.released().unwrap_or_else(|_| Self { rev: next_rev(), ..self });
        Self { imported_at: Some(now), ..waiting }
    }

    /// Its bodies have got other names.
    pub(crate) fn rename_bodies(&mut self, renamed: impl Fn(Body) -> Option<Body>) {
        self.input = self.input.and_then(&renamed);
        if let State::Done { answer, .. } | State::Failed { answer, .. } = &mut self.state {
            answer.body = answer.body.and_then(&renamed);
        }
    }

    /// Whether its result is still to be posted.
    pub fn is_calling(&self) -> bool {
        self.callback.as_ref().is_some_and(|callback| callback.next.is_some())
    }

    /// When to look at it again.
    pub fn due(&self) -> Millis {
        let end = self.end_of_state();
        let callback = self.callback.as_ref().and_then(|callback| callback.next);
        match callback {
            Some(next) if !self.status().is_pending() => end.min(next),
            Some(_) | None => end,
        }
    }

    /// What is due for it.
    pub fn lapse(&self, now: Millis) -> Lapse {
        if self.end_of_state() <= now {
            return self.at_end_of_state(now);
        }
        let callback = self.callback.as_ref().and_then(|callback| callback.next);
        match callback {
            Some(next) if next <= now && !self.status().is_pending() => Lapse::CallBack,
            Some(_) | None => Lapse::Nothing,
        }
    }

    /// Whether nobody has started it in time.
    pub fn is_overdue(&self, now: Millis) -> bool {
        self.overdue_at().is_some_and(|at| at <= now)
    }

    /// When that will be so, if it still waits.
    pub fn overdue_at(&self) -> Option<Millis> {
        match &self.state {
            State::Queued { order, .. } => Some(self.here_since(*order).after(self.ttl.input())),
            State::Running { .. }
            | State::Done { .. }
            | State::Failed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => None,
        }
    }

    /// Its time is over.
    #[must_use]
    pub fn expired(&self, now: Millis) -> Self {
        let finished_at = match &self.state {
            State::Done { finished_at, .. } | State::Failed { finished_at, .. } => Some(*finished_at),
            State::Queued { .. }
            | State::Running { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => None,
        };
        let expired = Self { identity: None, ..self.with(State::Expired { at: now, finished_at }) }.over();
        match finished_at {
            None => expired.calling(now),
            Some(_) if !self.is_calling() => expired,
            Some(_) => expired.called_back(Err(("the result has expired".to_owned(), None))),
        }
    }

    fn end_of_state(&self) -> Millis {
        match &self.state {
            State::Queued { order, hold: None } => self.here_since(*order).after(self.ttl.input()),
            State::Queued { hold: Some(hold), .. } | State::Running { hold, .. } => hold.until,
            State::Done { finished_at: at, .. }
            | State::Failed { finished_at: at, .. }
            | State::Cancelled { at }
            | State::Expired { at, .. } => self.here_since(*at).after(self.ttl.result()),
        }
    }

    /// From when its time counts: what was elsewhere until later counts from then.
    fn here_since(&self, at: Millis) -> Millis {
        self.imported_at.map_or(at, |imported| at.max(imported))
    }

    fn at_end_of_state(&self, now: Millis) -> Lapse {
        match &self.state {
            State::Queued { hold: Some(_), .. } | State::Running { .. } => {
                self.released().map_or(Lapse::Nothing, |job| Lapse::Becomes(Box::new(job)))
            }
            State::Queued { hold: None, .. } | State::Done { .. } | State::Failed { .. } => {
                Lapse::Becomes(Box::new(self.expired(now)))
            }
            State::Cancelled { .. } | State::Expired { .. } => Lapse::Forget,
        }
    }

    /// Its request is not made any more: what only that needs goes.
    fn over(self) -> Self {
        Self { input: None, request: self.request.over(), ..self }
    }

    /// It has ended: whoever wanted to be told is.
    fn calling(mut self, now: Millis) -> Self {
        if let Some(callback) = &mut self.callback {
            callback.next = Some(now);
        }
        self
    }

    fn with(&self, state: State) -> Self {
        Self { state, rev: next_rev(), ..self.clone() }
    }

    fn with_callback(&self, change: impl FnOnce(&mut Callback)) -> Self {
        let mut job = Self { rev: next_rev(), ..self.clone() };
        if let Some(callback) = &mut job.callback {
            change(callback);
        }
        job
    }

    const fn illegal(&self, wanted: &'static str) -> Illegal {
        Illegal { from: self.status(), wanted }
    }
}

/// Chance instead of a counter: a change that is sent twice is known again, and two that race never look alike.
fn next_rev() -> u64 {
    fastrand::u64(1..)
}

#[cfg(test)]
mod tests;
