//! Every key's name, and what a change does to them.

use crate::body::{Body, BodyId, CHUNK};
use crate::id::JobId;
use crate::job::{Job, Status};
use crate::store::{Change, Filter};

/// The format of what is kept.
pub(super) const FORMAT: u64 = 1;

/// A command with its arguments.
type Effect = Vec<String>;

/// The names of one cluster's keys.
#[derive(Clone)]
pub(super) struct Keys(String);

impl Keys {
    pub(super) fn new(cluster: &str) -> Self {
        Self(format!("longshore:{cluster}:"))
    }

    fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.0)
    }

    pub(super) fn format(&self) -> String {
        self.key("format")
    }

    pub(super) fn bytes(&self) -> String {
        self.key("bytes")
    }

    pub(super) fn news(&self) -> String {
        self.key("news")
    }

    pub(super) fn services(&self) -> String {
        self.key("services")
    }

    pub(super) fn due(&self) -> String {
        self.key("due")
    }

    pub(super) fn job(&self, id: JobId) -> String {
        self.key(&format!("job:{id}"))
    }

    pub(super) fn unique(&self, name: &str) -> String {
        self.key(&format!("unique:{name}"))
    }

    pub(super) fn queue(&self, service: &str) -> String {
        self.key(&format!("queue:{service}"))
    }

    pub(super) fn piece(&self, body: BodyId, index: u64) -> String {
        self.key(&format!("body:{body}:{index}"))
    }

    /// The jobs of a service, in a state, or both; their ids sort by age.
    pub(super) fn list(&self, service: Option<&str>, status: Option<Status>) -> String {
        let status = status.map_or("", Status::name);
        self.key(&format!("list:{}:{status}", service.unwrap_or_default()))
    }

    /// The same, of those that came with the key of this name.
    pub(super) fn owned(&self, owner: &str, service: Option<&str>, status: Option<Status>) -> String {
        let status = status.map_or("", Status::name);
        // A service's name has no colon; an owner's may.
        self.key(&format!("owned:{}:{status}:{owner}", service.unwrap_or_default()))
    }

    /// The list that has what a filter lets through.
    pub(super) fn filtered(&self, filter: &Filter) -> String {
        let (service, status) = (filter.service.as_deref(), filter.status);
        match &filter.owner {
            None => self.list(service, status),
            Some(owner) => self.owned(owner, service, status),
        }
    }

    /// What a change does beside the record.
    pub(super) fn effects(&self, change: &Change) -> Vec<Effect> {
        let (from, to) = (change.from.as_ref(), change.to.as_ref());
        let mut effects = Vec::new();
        let before: Vec<Entry> = from.map(|job| self.entries(job)).unwrap_or_default();
        let after: Vec<Entry> = to.map(|job| self.entries(job)).unwrap_or_default();
        // A new score replaces an old one.
        let gone = before.iter().filter(|old| after.iter().all(|new| new.key != old.key));
        effects.extend(gone.map(Entry::remove));
        effects.extend(after.iter().filter(|new| !before.contains(new)).map(Entry::add));
        let names = |job: Option<&Job>| job.map(Job::unique).unwrap_or_default();
        let (old, new) = (names(from), names(to));
        let freed = old.iter().filter(|name| !new.contains(name));
        effects.extend(freed.map(|name| vec!["DEL".to_owned(), self.unique(name)]));
        if let Some(job) = to {
            effects
                .extend(new.iter().map(|name| vec!["SET".to_owned(), self.unique(name), job.id.to_string()]));
            effects.push(vec!["SADD".to_owned(), self.services(), job.service.clone()]);
        }
        // A small one comes with the change; the pieces of others are there, for a while.
        for staged in change.staged.iter().filter(|staged| staged.small.is_none()) {
            let keys = all_pieces(self, staged.body);
            effects.extend(keys.into_iter().map(|key| vec!["PERSIST".to_owned(), key]));
        }
        for body in change.orphans() {
            effects.extend(all_pieces(self, body).into_iter().map(|key| vec!["UNLINK".to_owned(), key]));
        }
        effects
    }

    fn entries(&self, job: &Job) -> Vec<Entry> {
        let facets = job.facets();
        let (service, status) = (Some(job.service.as_str()), Some(facets.status));
        let kinds = [(None, None), (service, None), (None, status), (service, status)];
        let owned = job.request.key.iter();
        let owned = owned.flat_map(|owner| kinds.map(|(service, status)| self.owned(owner, service, status)));
        let lists = kinds.map(|(service, status)| self.list(service, status)).into_iter().chain(owned);
        let lists = lists.map(|list| (list, 0));
        let queue = facets.queued.map(|order| (self.queue(&job.service), order.0));
        let due = facets.due.map(|at| (self.due(), at.0));
        let all = lists.chain(queue).chain(due);
        all.map(|(key, score)| Entry { key, score, member: job.id.to_string() }).collect()
    }
}

/// A member of a sorted set.
#[derive(PartialEq, Eq)]
struct Entry {
    key: String,
    score: u64,
    member: String,
}

impl Entry {
    fn add(&self) -> Effect {
        vec!["ZADD".to_owned(), self.key.clone(), self.score.to_string(), self.member.clone()]
    }

    fn remove(&self) -> Effect {
        vec!["ZREM".to_owned(), self.key.clone(), self.member.clone()]
    }
}

/// By how many bytes the store grows.
pub(super) fn growth(change: &Change) -> i64 {
    let bytes = |job: &Option<Job>| job.as_ref().map_or(0, |job| job.facets().bytes as i64);
    bytes(&change.to) - bytes(&change.from)
}

/// The keys of the first pieces of a body.
pub(super) fn pieces(keys: &Keys, body: BodyId, count: u64) -> Vec<String> {
    (0..count).map(|index| keys.piece(body, index)).collect()
}

fn all_pieces(keys: &Keys, body: Body) -> Vec<String> {
    pieces(keys, body.id, body.length.div_ceil(CHUNK as u64))
}
