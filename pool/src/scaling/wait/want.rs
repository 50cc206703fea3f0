//! How many slots it takes, for few to wait longer than the objective.

use super::Facts;

/// Beyond the start itself: from the decision to the request that is dispatched.
const DELTA: f64 = 0.1;
/// More slots are never wanted: it is a service's pool that is locked while they are counted.
const MOST: u32 = 20_000;
/// Steps in which the queue is followed until an instance that is started now is ready.
const STEPS: u32 = 40;

/// What is foreseen for the moment when an instance that is started now is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outlook {
    /// The load to which everything tends: arrivals a second times service time.
    pub(super) offered: f64,
    /// Requests at work, were there a slot for each.
    pub(super) requests: f64,
    /// The variance of that.
    variance: f64,
    /// Requests there with the slots that are ready or coming.
    present: f64,
    /// The same if no more arrive than in the long run: what is there then for sure.
    sure: f64,
    /// The time until then.
    horizon: f64,
}

impl Outlook {
    /// The mean and variance of the infinite-server system (Jennings, Mandelbaum, Massey, Whitt 1996), begun with the
    /// requests that slots exist for; peaked arrivals and an uncertain rate add to the variance.
    pub(super) fn at(facts: &Facts) -> Self {
        let (m, demand) = (facts.service, &facts.demand);
        let offered = demand.rate * m;
        let horizon = facts.start + DELTA;
        let stay = (-horizon / m).exp();
        let slots = (facts.ready + facts.coming.len() as f64) * facts.slots;
        let begun = facts.requests.min(slots.max(1.0));
        let go = 1.0 - stay;
        let variance = offered * go
            + (demand.burstiness - 1.0) * offered * (1.0 - stay * stay) / 2.0
            + begun * stay * go
            + m * m * go * go * demand.rate * demand.burstiness / demand.over.max(1.0);
        let requests = offered + (begun - offered) * stay;
        let (present, sure) = (followed(facts, demand.rate), followed(facts, demand.rate.min(demand.usual)));
        Self { offered, requests, variance, present, sure, horizon }
    }

    /// The fewest slots at which at most this part of the requests waits longer than the objective.
    pub(super) fn want(&self, facts: &Facts, late: f64) -> u32 {
        if self.requests <= 0.0 && self.present <= 0.0 {
            return 0;
        }
        let peakedness = (self.variance / self.requests.max(1e-9)).clamp(0.05, 20.0);
        let mut erlang = Erlang::new(self.requests / peakedness);
        let mut enough = |slots: u32| self.late_at(f64::from(slots), peakedness, &mut erlang, facts) <= late;
        // More slots never make more of them late: doubled until it is enough, then halved.
        let mut high = 1;
        while high < MOST && !enough(high) {
            high = (2 * high).min(MOST);
        }
        let mut low = high / 2;
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if enough(middle) { high = middle } else { low = middle }
        }
        high
    }

    /// How likely a request waits longer than the objective with so many slots: that it waits at all (Erlang C with
    /// Hayward's peakedness), and then that the work before it does not shrink enough (the transient distribution of a
    /// reflected Brownian motion, Harrison 1985).
    fn late_at(&self, slots: f64, peakedness: f64, erlang: &mut Erlang, facts: &Facts) -> f64 {
        let m = facts.service;
        // Who comes behind a backlog waits for certain.
        let waits = if self.sure > slots { 1.0 } else { erlang.c(slots / peakedness) };
        let backlog = ((self.present - slots) * m).max(0.0);
        let allowed = slots * facts.objective;
        let drift = slots - self.offered;
        let variance = (self.offered * m * (facts.demand.burstiness + facts.variation)).max(1e-9);
        let spread = (variance * self.horizon).sqrt();
        let within = facts.objective.max(facts.start / 4.0).max(DELTA);
        let gain = drift * within;
        let exponent = (-2.0 * drift * allowed / variance).min(50.0);
        let direct = normal((backlog - allowed - gain) / spread);
        let reflected = exponent.exp() * normal((-backlog - allowed + gain) / spread);
        waits * (direct + reflected).min(1.0)
    }
}

/// Requests when an instance that is started now is ready, if nothing more is started.
fn followed(facts: &Facts, rate: f64) -> f64 {
    let step = facts.start / f64::from(STEPS);
    let mut requests = facts.requests;
    for n in 0..STEPS {
        let now = f64::from(n) * step;
        let come = facts.coming.iter().filter(|left| **left <= now).count() as f64;
        let served = requests.min((facts.ready + come) * facts.slots) / facts.service;
        requests = (requests + (rate - served) * step).max(0.0);
    }
    requests
}

/// Erlang's B and C for one load, reckoned as far as is asked.
struct Erlang {
    load: f64,
    // How likely all of 0, 1, 2, … servers are taken.
    blocked: Vec<f64>,
}

impl Erlang {
    fn new(load: f64) -> Self {
        Self { load: load.max(0.0), blocked: vec![1.0] }
    }

    fn b(&mut self, servers: usize) -> f64 {
        while self.blocked.len() <= servers {
            let n = self.blocked.len() as f64;
            let last = self.blocked[self.blocked.len() - 1];
            self.blocked.push(self.load * last / (n + self.load * last));
        }
        self.blocked[servers]
    }

    fn whole(&mut self, servers: usize) -> f64 {
        let n = servers as f64;
        if n <= self.load {
            return 1.0;
        }
        let b = self.b(servers);
        (b / (1.0 - self.load / n * (1.0 - b))).clamp(1e-300, 1.0)
    }

    /// How likely a request waits with so many servers; between whole numbers on the line through the logarithms.
    fn c(&mut self, servers: f64) -> f64 {
        let below = servers.floor();
        let part = servers - below;
        let low = self.whole(below as usize);
        if part == 0.0 || servers <= self.load {
            return low.max(f64::from(u8::from(servers <= self.load)));
        }
        let high = self.whole(below as usize + 1);
        (low.ln() * (1.0 - part) + high.ln() * part).exp()
    }
}

/// The distribution function of the normal distribution (Abramowitz and Stegun 26.2.17; error below 1e-7).
fn normal(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let poly = t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if x >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erlangs_formulas_are_right() {
        // 10 servers at a load of 8: B = 0.12166, C = 0.40918 (tables).
        let mut erlang = Erlang::new(8.0);
        assert!((erlang.b(10) - 0.121_66).abs() < 1e-5);
        assert!((erlang.c(10.0) - 0.409_18).abs() < 1e-5);
        assert_eq!(erlang.c(8.0), 1.0);
        assert_eq!(erlang.c(7.3), 1.0);
        let between = erlang.c(10.5);
        assert!(between < erlang.c(10.0) && between > erlang.c(11.0));
    }

    #[test]
    fn the_normal_distribution_is_right() {
        for (x, phi) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (9.0, 1.0), (-40.0, 0.0)] {
            assert!((normal(x) - phi).abs() < 2e-7, "{x}: {}", normal(x));
        }
    }
}
