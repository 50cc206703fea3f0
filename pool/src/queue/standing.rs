//! How many are served before a request that waits.

use crate::requests::{Key, Line, List, Request, Requests};

use super::Queue;
use super::fair::Flows;
use super::priority::Levels;
use super::turns::Turns;

/// So many of a line are looked at one by one; those behind are taken to have come evenly.
const LOOK: u32 = 1_024;

impl Queue {
    /// How many are served before this request, which waits, if nobody else comes or leaves.
    ///
    /// Exact where no more than [`LOOK`] of any line, and flows, are before it; an estimate beyond. Under the random
    /// order it is the mean. Costs O(replays) and [`LOOK`] steps a line: two lines where the order is fair, ten where it
    /// is by priority.
    pub(crate) fn ahead(&self, requests: &Requests, key: Key, line: Line) -> usize {
        let request = &requests[key];
        match line {
            Line::Replay => self.replays.range(..request.order).count(),
            Line::Fresh => {
                let fresh = match &self.turns {
                    Turns::Fifo => before(requests, &self.fresh, request.order, by_order),
                    Turns::Random(_) => u64::from(self.fresh.len() - 1) / 2,
                    Turns::Fair(flows) => fair(requests, flows, request),
                    Turns::Priority(levels) => by_priority(requests, levels, request),
                };
                self.replays.len() + fresh as usize
            }
        }
    }
}

/// Everyone who is earlier in its own flow, and as many of each other one; one more of those whose turn is earlier.
fn fair(requests: &Requests, flows: &Flows, request: &Request) -> u64 {
    let Some(own) = flows.line(request.class.flow) else { return 0 };
    let turns = before(requests, &own, request.order, by_order);
    let (mut all, mut passed) = (0, false);
    let looked = flows.len().min(LOOK as usize);
    for line in flows.ring().take(looked) {
        if line.first() == own.first() {
            passed = true;
        } else {
            all += u64::from(line.len()).min(turns + u64::from(!passed));
        }
    }
    turns + all * flows.len() as u64 / looked as u64
}

fn by_priority(requests: &Requests, levels: &Levels, request: &Request) -> u64 {
    let lines = levels.before(request);
    lines
        .map(|(list, arrived)| match arrived == request.arrived.as_nanos() {
            // Its own level, or all where nothing ages: by arrival.
            true => before(requests, &list, request.order, by_order),
            false => before(requests, &list, arrived, by_time),
        })
        .sum()
}

fn by_order(request: &Request) -> u64 {
    request.order
}

fn by_time(request: &Request) -> u64 {
    request.arrived.as_nanos()
}

/// How many of a list are below `target` by a measure that grows along it.
fn before<const PAIR: usize>(
    requests: &Requests,
    list: &List<PAIR>,
    target: u64,
    measure: fn(&Request) -> u64,
) -> u64 {
    let Some(last) = list.last().map(|key| measure(&requests[key])) else { return 0 };
    if last < target {
        return u64::from(list.len());
    }
    let mut seen = 0;
    for key in list.keys(requests) {
        let at = measure(&requests[key]);
        if at >= target {
            return seen;
        }
        if seen == u64::from(LOOK) {
            let part = (target - at) as f64 / (last - at).max(1) as f64;
            return seen + (part * (u64::from(list.len()) - 1 - seen) as f64).round() as u64;
        }
        seen += 1;
    }
    seen
}
