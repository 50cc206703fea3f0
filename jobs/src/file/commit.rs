//! The one thread that writes. Whatever has come while it wrote goes into the next transaction together: one sync of the
//! disk for all of it. What need not last is synced with the next that must, or a moment later if nothing else comes, so that
//! a crash undoes no more than that moment.

use std::collections::{HashSet, VecDeque};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::table::Rows;
use super::{Shared, bodies};
use crate::body::Body;
use crate::store::{Change, Outcome, StoreError};

/// Changes in one transaction at the most.
const TOGETHER: usize = 512;

/// So long after it was written, what need not last has lasted: longer than most jobs that are over at once, so that these
/// are synced once.
const LASTS_WITHIN: Duration = Duration::from_millis(20);

pub(super) struct Committer {
    /// There until it is dropped, which ends the thread.
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

struct Work {
    changes: Vec<Change>,
    done: oneshot::Sender<Result<Vec<Outcome>, StoreError>>,
}

impl Committer {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("jobs".to_owned())
            .spawn(move || run(&shared, &receiver))
            .map_err(|error| StoreError::Unavailable(format!("no thread for the job store: {error}")))?;
        Ok(Self { work: Some(sender), thread: Some(thread) })
    }

    pub(super) async fn swap(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        let (done, answer) = oneshot::channel();
        let ended = || StoreError::Unavailable("the job store has ended".to_owned());
        let work = self.work.as_ref().ok_or_else(ended)?;
        work.send(Work { changes, done }).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // Whatever it was given is written before it ends. If it has panicked, that was said then.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, receiver: &mpsc::Receiver<Work>) {
    let mut waiting: VecDeque<Work> = VecDeque::new();
    // Since when something is written and not synced.
    let mut unsynced: Option<Instant> = None;
    loop {
        let left = unsynced.map(|since| LASTS_WITHIN.saturating_sub(since.elapsed()));
        if waiting.is_empty() {
            match next(receiver, left) {
                Ok(work) => waiting.push_back(work),
                Err(RecvTimeoutError::Timeout) => {}
                // The store is closed: the file is synced with that.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        waiting.extend(receiver.try_iter());
        let is_late = unsynced.is_some_and(|since| since.elapsed() >= LASTS_WITHIN);
        match Batch::gather(&mut waiting).commit(shared, is_late) {
            // What a failure left unsynced is synced with the next that must last.
            Written::Synced | Written::Failed => unsynced = None,
            Written::Unsynced => unsynced = unsynced.or_else(|| Some(Instant::now())),
            Written::Nothing => {}
        }
    }
}

/// The next work, or none within the time that is left.
fn next(receiver: &mpsc::Receiver<Work>, left: Option<Duration>) -> Result<Work, RecvTimeoutError> {
    match left {
        Some(left) => receiver.recv_timeout(left),
        None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// What came of a transaction.
enum Written {
    /// All that was written so far is on the disk.
    Synced,
    /// It would not outlive a crash yet.
    Unsynced,
    /// There was nothing to write.
    Nothing,
    /// The disk fails, which whoever waits is told.
    Failed,
}

/// What goes into one transaction: no job and no name twice, so that each change can be judged by what is there now.
#[derive(Default)]
struct Batch {
    works: Vec<Work>,
}

impl Batch {
    fn gather(waiting: &mut VecDeque<Work>) -> Self {
        let (mut batch, mut touched, mut count) = (Self::default(), HashSet::new(), 0);
        while let Some(work) = waiting.pop_front() {
            let names: Vec<String> = work.changes.iter().flat_map(names).collect();
            let clash = names.iter().any(|name| touched.contains(name));
            if !batch.works.is_empty() && (clash || count + work.changes.len() > TOGETHER) {
                waiting.push_front(work);
                break;
            }
            touched.extend(names);
            count += work.changes.len();
            batch.works.push(work);
        }
        batch
    }

    /// Writes it; with `sync` also what was written before is synced.
    fn commit(self, shared: &Shared, sync: bool) -> Written {
        let judged: Vec<(Work, Result<Vec<Outcome>, StoreError>)> = self
            .works
            .into_iter()
            .map(|work| {
                let outcomes = judge(shared, &work.changes);
                (work, outcomes)
            })
            .collect();
        let made = || {
            judged.iter().flat_map(|(work, outcomes)| {
                let outcomes = outcomes.as_deref().unwrap_or_default();
                work.changes.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Made)
            })
        };
        let lasting = sync || made().any(|(change, _)| change.lasting);
        let is_empty = !sync && made().next().is_none();
        let written = match is_empty {
            true => Ok(()),
            false => {
                shared.table.write(lasting, |rows| made().try_for_each(|(change, _)| write(rows, change)))
            }
        };
        let came_of_it = match (&written, lasting) {
            (Ok(()), _) if is_empty => Written::Nothing,
            (Ok(()), true) => Written::Synced,
            (Ok(()), false) => Written::Unsynced,
            (Err(_), _) => Written::Failed,
        };
        for (work, outcomes) in judged {
            let answer = match (&written, outcomes) {
                (Ok(()), Ok(outcomes)) => {
                    publish(shared, work.changes, &outcomes);
                    Ok(outcomes)
                }
                (Ok(()), Err(error)) => Err(error),
                (Err(error), _) => Err(error.clone()),
            };
            // Whoever asked may have gone.
            let _ = work.done.send(answer);
        }
        came_of_it
    }
}

/// What may not be touched twice in one transaction.
fn names(change: &Change) -> Vec<String> {
    let jobs = change.from.iter().chain(&change.to);
    let unique = jobs.flat_map(crate::job::Job::unique);
    change.id().map(|id| id.to_string()).into_iter().chain(unique).collect()
}

fn judge(shared: &Shared, changes: &[Change]) -> Result<Vec<Outcome>, StoreError> {
    let new: u64 = changes.iter().map(Change::new_record_bytes).sum();
    if new > 0 {
        shared.quota.check(new)?;
        shared.quota.check_disk(new)?;
    }
    let index = shared.index.lock();
    Ok(changes.iter().map(|change| index.verdict(change)).collect())
}

fn write(rows: &mut Rows<'_>, change: &Change) -> Result<(), redb::Error> {
    for staged in &change.staged {
        if let Some(small) = &staged.small {
            rows.put_body(staged.body.id, small)?;
        }
    }
    for body in change.orphans().into_iter().filter(|body| body.is_small()) {
        rows.remove_body(body.id)?;
    }
    match (&change.from, &change.to) {
        (_, Some(job)) => rows.put(job),
        (Some(job), None) => rows.remove(job.id),
        (None, None) => Ok(()),
    }
}

/// It is so: everybody may see it.
fn publish(shared: &Shared, changes: Vec<Change>, outcomes: &[Outcome]) {
    let mut orphans: Vec<Body> = Vec::new();
    for (change, outcome) in changes.into_iter().zip(outcomes) {
        if *outcome != Outcome::Made {
            continue;
        }
        orphans.extend(change.orphans().into_iter().filter(|body| !body.is_small()));
        let mut index = shared.index.lock();
        index.apply(change.from.as_ref(), change.to.as_ref());
        shared.quota.set_used(index.bytes());
        drop(index);
        if let Some(news) = change.news() {
            // Nobody may be listening.
            let _ = shared.news.send(news);
        }
        change.staged.into_iter().for_each(crate::body::Staged::keep);
    }
    for body in orphans {
        bodies::remove(&shared.bodies, body);
    }
}
