//! One job: its request is made through the service's queue, and its answer is kept.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::{Change, Job, Millis, Outcome, Staged, State, Store, StoreError};
use tokio::sync::{Notify, oneshot};

use super::Jobs;
use super::keep::{Answered, Asked, head, kept, no_room};
use super::stored::{Failure, request};
use crate::gateway::front;
use crate::problem::Problem;

/// How often the lease is renewed within its time.
const RENEWALS: u32 = 3;

/// How long a service whose queue refuses jobs is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// How often an answer that breaks off in its middle is asked for again.
const BROKEN_ANSWERS: u32 = 5;

/// How a run ended.
enum End {
    /// With an instance's answer.
    Answered(Answered),
    /// With one of Longshore's own.
    Refused(Problem),
    /// It could not be run now: it waits again, and the service is left alone for a while.
    NotNow(Duration),
    /// The instance broke off in the middle of its answer: it is run again.
    Again(String),
    /// Somebody else has the job now, or nobody.
    Taken,
}

/// Runs a job that this process holds, to its end or until it is given back.
pub(super) async fn work(jobs: &Arc<Jobs>, store: &Arc<dyn Store>, job: Job, changed: &Notify) {
    let mut run = Run { jobs: jobs.clone(), store: store.clone(), job };
    loop {
        let end = match run.once(changed).await {
            Ok(end) => end,
            Err(error) => {
                tracing::error!(job = %run.job.id, %error, "the job store failed under a job: it is run again later");
                End::NotNow(PAUSE)
            }
        };
        match run.ended(end).await {
            Ok(true) => return,
            Ok(false) => {}
            // Its lease expires, or the next start finds it.
            Err(error) => {
                tracing::error!(job = %run.job.id, %error, "failed to keep the end of a job");
                return;
            }
        }
    }
}

struct Run {
    jobs: Arc<Jobs>,
    store: Arc<dyn Store>,
    job: Job,
}

impl Run {
    /// Makes the request once, keeping the lease alive meanwhile.
    async fn once(&mut self, changed: &Notify) -> Result<End, StoreError> {
        let (started, mut has_started) = oneshot::channel();
        let Some(gateway) = self.jobs.gateway() else { return Ok(End::NotNow(PAUSE)) };
        let failure = Failure::default();
        let request = match request(&self.store, &self.job, &failure, started) {
            Ok(request) => request,
            Err(why) => return Ok(End::Refused(Problem::Invalid(why))),
        };
        let store = self.store.clone();
        let mut asking = Box::pin(async move {
            match front::absent(&gateway, request).await {
                Ok(response) => kept(&store, response).await,
                Err(problem) => Ok(Asked::Refused(problem)),
            }
        });
        let mut renewal = tokio::time::interval(self.jobs.config.lease / RENEWALS);
        renewal.tick().await;
        let overdue = overdue(self.job.overdue_at());
        tokio::pin!(overdue);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                has = &mut has_started, if !told => {
                    told = true;
                    if has.is_ok() && !self.start().await? {
                        return Ok(End::Taken);
                    }
                }
                answered = &mut asking => return Ok(self.judged(answered?, failure.lock().take())),
                () = changed.notified() => {
                    if self.jobs.feed.is_closed() && !told {
                        return Ok(End::NotNow(PAUSE));
                    }
                    if !self.is_ours().await? {
                        return Ok(End::Taken);
                    }
                }
                () = &mut overdue, if !told => return Ok(End::NotNow(Duration::ZERO)),
                _ = renewal.tick() => {
                    let until = Millis::now().after(self.jobs.config.lease);
                    let Ok(renewed) = self.job.renewed(until) else { return Ok(End::Taken) };
                    if !self.note(renewed).await? {
                        return Ok(End::Taken);
                    }
                }
            }
        }
    }

    /// An instance works on it from now on; whether it is still ours.
    async fn start(&mut self) -> Result<bool, StoreError> {
        self.jobs.feed.has_instance(self.job.id);
        match self.job.started(Millis::now()) {
            Ok(running) => self.note(running).await,
            // It is being run again.
            Err(_) => Ok(true),
        }
    }

    async fn note(&mut self, next: Job) -> Result<bool, StoreError> {
        let change = Change::note(self.job.clone(), next.clone());
        let made = self.store.swap(vec![change]).await?.first() == Some(&Outcome::Made);
        if made {
            self.job = next;
        }
        Ok(made)
    }

    async fn is_ours(&self) -> Result<bool, StoreError> {
        Ok(self.store.get(self.job.id).await?.is_some_and(|job| job.rev == self.job.rev))
    }

    fn judged(&self, asked: Asked, failure: Option<StoreError>) -> End {
        match (asked, failure) {
            (Asked::Answered(answered), _) => End::Answered(answered),
            (Asked::Broken(why), _) => End::Again(why),
            (Asked::Refused(_), Some(failure)) => unread(&failure),
            (Asked::Refused(problem), None) => self.refused(problem),
        }
    }

    /// What the queue's refusal means for a job: it can wait longer than a connection can.
    fn refused(&self, problem: Problem) -> End {
        let running = matches!(self.job.state, State::Running { .. });
        match problem {
            Problem::QueueFull(_, after) | Problem::CannotStart(_, after) => {
                End::NotNow(after.clamp(PAUSE, Duration::from_secs(30)))
            }
            Problem::QueueTimeout(_) | Problem::Stopped(_) | Problem::ShuttingDown(_) => End::NotNow(PAUSE),
            Problem::Timeout(_) if !running => End::NotNow(Duration::ZERO),
            problem => End::Refused(problem),
        }
    }

    /// Keeps how it ended; whether that was the end of it.
    async fn ended(&mut self, end: End) -> Result<bool, StoreError> {
        match end {
            End::Taken => Ok(true),
            End::NotNow(pause) => {
                if !pause.is_zero() {
                    self.jobs.feed.pause(&self.job.service, pause);
                }
                if let Ok(waiting) = self.job.released() {
                    let change = Change::update(self.job.clone(), waiting);
                    self.store.swap(vec![change]).await?;
                }
                Ok(true)
            }
            End::Again(why) if self.job.attempts < BROKEN_ANSWERS => {
                tracing::info!(job = %self.job.id, why, "an instance broke off its answer to a job: it is asked again");
                let again = Job { attempts: self.job.attempts + 1, ..self.job.clone() };
                let renewed = again.renewed(Millis::now().after(self.jobs.config.lease));
                match renewed {
                    Ok(again) => Ok(!self.note(again).await?),
                    Err(_) => Ok(true),
                }
            }
            End::Again(why) => {
                let why = format!("every instance that was asked broke off its answer: {why}");
                self.refuse(&Problem::AttemptsExhausted(why)).await
            }
            End::Refused(problem) => self.refuse(&problem).await,
            End::Answered(answered) => match self.finish(answered).await {
                Err(StoreError::Full(why)) => self.refuse(&no_room(&why)).await,
                finished => finished,
            },
        }
    }

    async fn refuse(&mut self, problem: &Problem) -> Result<bool, StoreError> {
        let response = problem.response(Some(&self.job.service), None, &http::HeaderMap::new());
        let with = |staged: Option<Staged>| {
            let answer = head(&response, staged.as_ref().map(|staged| staged.body));
            Answered { answer, staged, attempts: 0 }
        };
        let refused = match self.staged(response.body()).await {
            Ok(staged) => self.finish(with(staged)).await,
            Err(error) => Err(error),
        };
        match refused {
            // Its status says it, too.
            Err(StoreError::Full(_)) => self.finish(with(None)).await,
            refused => refused,
        }
    }

    async fn staged(&self, body: &[u8]) -> Result<Option<Staged>, StoreError> {
        let mut writer = self.store.write()?;
        writer.write(body).await?;
        writer.finish().await
    }

    async fn finish(&mut self, answered: Answered) -> Result<bool, StoreError> {
        let Answered { answer, staged, attempts } = answered;
        let now = Millis::now();
        let Ok(done) = self.job.finished(answer, attempts, now) else { return Ok(true) };
        let (took, calls) = (now.since(done.submitted_at), done.is_calling());
        let change = Change::update(self.job.clone(), done).with(staged);
        if self.store.swap(vec![change]).await?.first() == Some(&Outcome::Made) {
            self.jobs.took(&self.job.service, took);
            if calls {
                self.jobs.callbacks.wake();
            }
        }
        Ok(true)
    }
}

/// Until nobody has started a job in time, if it waits.
async fn overdue(at: Option<Millis>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(Millis::now())).await,
        None => std::future::pending().await,
    }
}

/// What it means for a job that its body cannot be read: a store that is away comes back, what is damaged stays so.
fn unread(failure: &StoreError) -> End {
    match failure {
        StoreError::Corrupt(why) => End::Refused(Problem::JobDamaged(format!(
            "the job store is damaged: {why}. Send the request again"
        ))),
        StoreError::Full(_) | StoreError::Unavailable(_) | StoreError::Locked(_) => End::NotNow(PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_away_is_no_failure_of_the_job() {
        for failure in [StoreError::Unavailable("away".to_owned()), StoreError::Locked("held".to_owned())] {
            assert!(matches!(unread(&failure), End::NotNow(_)), "{failure}");
        }
        let damaged = unread(&StoreError::Corrupt("it is gone".to_owned()));
        assert!(matches!(damaged, End::Refused(Problem::JobDamaged(why)) if why.contains("it is gone")));
    }
}
