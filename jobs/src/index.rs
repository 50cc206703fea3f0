//! What a store inside this process knows by heart of every job: about a hundred bytes each. Everything else of a job is
//! read when it is asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::id::JobId;
use crate::job::{Facets, Job, Millis, Status};
use crate::store::{Change, Counts, Filter, Outcome};

/// A place in a service's queue.
type Place = (Millis, JobId);

#[derive(Default)]
pub(crate) struct Index {
    jobs: BTreeMap<JobId, Entry>,
    services: HashMap<String, Service>,
    due: BTreeSet<(Millis, JobId)>,
    unique: HashMap<String, JobId>,
    /// The jobs that came with a key, by its name: its holder sees no others, however many there are.
    owned: HashMap<String, BTreeSet<JobId>>,
    bytes: u64,
}

struct Entry {
    service: Arc<str>,
    rev: u64,
    facets: Facets,
}

struct Service {
    name: Arc<str>,
    /// Sorted: jobs come at the end and go at the head, nearly always.
    queue: std::collections::VecDeque<Place>,
    counts: [u64; Status::ALL.len()],
}

impl Index {
    /// What would come of a change now.
    pub(crate) fn verdict(&self, change: &Change) -> Outcome {
        let Some(id) = change.id() else { return Outcome::Stale };
        let there = self.jobs.get(&id).map(|entry| entry.rev);
        if there != change.from.as_ref().map(|job| job.rev) {
            return Outcome::Stale;
        }
        let names = change.to.iter().flat_map(Job::unique);
        let mut owners = names.filter_map(|name| self.unique.get(&name)).filter(|owner| **owner != id);
        owners.next().map_or(Outcome::Made, |owner| Outcome::Taken(*owner))
    }

    /// One record instead of another.
    pub(crate) fn apply(&mut self, from: Option<&Job>, to: Option<&Job>) {
        if let Some(job) = from {
            self.remove(job);
        }
        if let Some(job) = to {
            self.insert(job);
        }
    }

    fn remove(&mut self, job: &Job) {
        let Some(entry) = self.jobs.remove(&job.id) else { return };
        for name in job.unique() {
            if self.unique.get(&name) == Some(&job.id) {
                self.unique.remove(&name);
            }
        }
        if let Some(owner) = &job.request.key
            && let Some(owned) = self.owned.get_mut(owner)
        {
            owned.remove(&job.id);
            if owned.is_empty() {
                self.owned.remove(owner);
            }
        }
        self.bytes -= entry.facets.bytes;
        if let Some(at) = entry.facets.due {
            self.due.remove(&(at, job.id));
        }
        let Some(service) = self.services.get_mut(&*entry.service) else { return };
        service.counts[entry.facets.status as usize] -= 1;
        if let Some(order) = entry.facets.queued
            && let Ok(place) = service.queue.binary_search(&(order, job.id))
        {
            service.queue.remove(place);
        }
    }

    fn insert(&mut self, job: &Job) {
        let facets = job.facets();
        for name in job.unique() {
            self.unique.insert(name, job.id);
        }
        if let Some(owner) = &job.request.key {
            self.owned.entry(owner.clone()).or_default().insert(job.id);
        }
        self.bytes += facets.bytes;
        if let Some(at) = facets.due {
            self.due.insert((at, job.id));
        }
        let service = self.services.entry(job.service.clone()).or_insert_with(|| Service {
            name: job.service.as_str().into(),
            queue: std::collections::VecDeque::new(),
            counts: [0; Status::ALL.len()],
        });
        service.counts[facets.status as usize] += 1;
        if let Some(order) = facets.queued
            && let Err(place) = service.queue.binary_search(&(order, job.id))
        {
            service.queue.insert(place, (order, job.id));
        }
        let entry = Entry { service: service.name.clone(), rev: job.rev, facets };
        self.jobs.insert(job.id, entry);
    }

    /// What all of it takes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn heads(&self, service: &str, count: usize) -> Vec<JobId> {
        let queue = self.services.get(service).map(|service| &service.queue);
        queue.into_iter().flatten().take(count).map(|(_, id)| *id).collect()
    }

    pub(crate) fn ahead(&self, job: &Job) -> u64 {
        let queue = self.services.get(&job.service).map(|service| &service.queue);
        match (queue, job.facets().queued) {
            (Some(queue), Some(order)) => {
                queue.binary_search(&(order, job.id)).unwrap_or_else(|place| place) as u64
            }
            (None, _) | (_, None) => 0,
        }
    }

    pub(crate) fn due(&self, now: Millis, count: usize) -> Vec<JobId> {
        self.due.iter().take_while(|(at, _)| *at <= now).take(count).map(|(_, id)| *id).collect()
    }

    pub(crate) fn page(&self, filter: &Filter, count: usize) -> Vec<JobId> {
        let newest = filter.after.map_or(Bound::Unbounded, Bound::Excluded);
        let fits = |entry: &Entry| {
            filter.service.as_deref().is_none_or(|service| service == &*entry.service)
                && filter.status.is_none_or(|status| status == entry.facets.status)
        };
        let older = (Bound::Unbounded, newest);
        match &filter.owner {
            None => {
                let jobs = self.jobs.range(older).rev();
                jobs.filter(|(_, entry)| fits(entry)).take(count).map(|(id, _)| *id).collect()
            }
            Some(owner) => {
                let jobs = self.owned.get(owner).into_iter().flat_map(|owned| owned.range(older).rev());
                jobs.filter(|id| self.jobs.get(id).is_some_and(fits)).take(count).copied().collect()
            }
        }
    }

    pub(crate) fn queued(&self, service: &str) -> u64 {
        self.services.get(service).map_or(0, |service| service.counts[Status::Queued as usize])
    }

    pub(crate) fn counts(&self) -> Counts {
        let services = self.services.values();
        services
            .flat_map(|service| {
                Status::ALL
                    .map(|status| ((service.name.to_string(), status), service.counts[status as usize]))
            })
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}
