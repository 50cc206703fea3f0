//! Whose turn it is, in each order of the queue, by plain means.

use longshore_pool::{Pool, QueueOrder, RequestId, Snapshot, Time};

use crate::checks::PASSED_OVER;
use crate::model::{Broken, Model, Place, Request, ensure};

impl Model {
    /// This request, which waits, is dispatched: nobody who comes before it could have been sent somewhere.
    pub(crate) fn check_turn(&mut self, id: u64, after: &Snapshot) -> Result<(), Broken> {
        let request = &self.requests[&id];
        if self.replays() < PASSED_OVER {
            for (other, before) in self.waiting().filter(|(_, it)| self.comes_before(it, request)) {
                ensure!(!self.could_go(before, after), "{id} is dispatched before {other}");
            }
        }
        match (self.config.order, request.place) {
            (QueueOrder::Fair, Place::Waiting { replay: false, .. }) => {
                let flow = request.class.flow;
                self.check_shares(flow)
            }
            (QueueOrder::Fifo | QueueOrder::Random | QueueOrder::Priority { .. }, _)
            | (
                QueueOrder::Fair,
                Place::Waiting { replay: true, .. } | Place::Flying { .. } | Place::Doomed,
            ) => Ok(()),
        }
    }

    /// Whether one must be served before the other: replays by age, then as the order has it.
    fn comes_before(&self, one: &Request, other: &Request) -> bool {
        let replay = |it: &Request| matches!(it.place, Place::Waiting { replay: true, .. });
        match (replay(one), replay(other)) {
            (true, true) => one.order < other.order,
            (true, false) => true,
            (false, true) => false,
            (false, false) => match self.config.order {
                QueueOrder::Fifo => one.order < other.order,
                QueueOrder::Random => false,
                QueueOrder::Fair => one.class.flow == other.class.flow && one.order < other.order,
                QueueOrder::Priority { .. } => (self.rank(one), one.order) < (self.rank(other), other.order),
            },
        }
    }

    /// When a request would have arrived that had the highest priority and came as early as this one does.
    fn rank(&self, request: &Request) -> Time {
        let QueueOrder::Priority { ageing } = self.config.order else { return request.arrived };
        request.arrived + ageing * (9 - u32::from(request.class.priority.min(9)))
    }

    /// Over any time in which two flows wait, both are served equally often, to within one.
    fn check_shares(&mut self, served: u64) -> Result<(), Broken> {
        let others: Vec<u64> =
            self.fresh().map(|(_, it)| it.class.flow).filter(|flow| *flow != served).collect();
        for other in std::collections::BTreeSet::from_iter(others) {
            let pair = (served.min(other), served.max(other));
            let (more, least, most) = self.shares.entry(pair).or_default();
            *more += if served == pair.0 { 1 } else { -1 };
            (*least, *most) = ((*least).min(*more), (*most).max(*more));
            ensure!(*most - *least <= 1, "of the flows {pair:?} one is served {} more often", *most - *least);
        }
        Ok(())
    }

    /// A flow of which nobody waits any more has no claim.
    pub(crate) fn forget_idle_flows(&mut self) {
        let waiting: std::collections::BTreeSet<u64> = self.fresh().map(|(_, it)| it.class.flow).collect();
        self.shares.retain(|(one, other), _| waiting.contains(one) && waiting.contains(other));
    }

    /// One request that waits, another each step, is told how many come before it.
    pub(crate) fn check_standing(&self, pool: &Pool) -> Result<(), Broken> {
        let waiting: Vec<(u64, &Request)> = self.waiting().collect();
        let nobody = RequestId(u64::MAX);
        ensure!(pool.standing(nobody, self.now).is_none(), "one that is not known has a place in the queue");
        if waiting.is_empty() {
            return Ok(());
        }
        let (id, request) = waiting[self.rank as usize % waiting.len()];
        let Some(told) = pool.standing(RequestId(id), self.now) else {
            return Err(format!("{id} waits and has no place in the queue"));
        };
        let before = waiting.iter().filter(|(_, it)| self.comes_before(it, request)).count();
        let fresh = self.fresh().count();
        let least = match (self.config.order, request.place) {
            (QueueOrder::Random, Place::Waiting { replay: false, .. }) => before + (fresh - 1) / 2,
            (QueueOrder::Fair, Place::Waiting { replay: false, .. }) => before + self.rivals(request, 0),
            _ => before,
        };
        let most = match (self.config.order, request.place) {
            (QueueOrder::Fair, Place::Waiting { replay: false, .. }) => before + self.rivals(request, 1),
            _ => least,
        };
        ensure!(
            (least..=most).contains(&told.ahead),
            "{least} to {most} come before {id}, not {}",
            told.ahead
        );
        ensure!(told.waiting == waiting.len(), "{} wait, not {}", waiting.len(), told.waiting);
        Ok(())
    }

    /// Requests of other flows that are served before this one, if each has so many turns more than its own.
    fn rivals(&self, request: &Request, more: usize) -> usize {
        let own = |it: &Request| it.class.flow == request.class.flow;
        let turns = self.fresh().filter(|(_, it)| own(it) && it.order < request.order).count();
        let others: Vec<u64> = self.fresh().filter(|(_, it)| !own(it)).map(|(_, it)| it.class.flow).collect();
        let flows = std::collections::BTreeSet::from_iter(others.iter());
        flows.iter().map(|flow| others.iter().filter(|it| *it == *flow).count().min(turns + more)).sum()
    }

    fn fresh(&self) -> impl Iterator<Item = (u64, &Request)> {
        self.waiting().filter(|(_, it)| matches!(it.place, Place::Waiting { replay: false, .. }))
    }
}
