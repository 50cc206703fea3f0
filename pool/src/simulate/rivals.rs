//! The rules of other autoscalers, to compare with. Services cannot choose them.

use std::time::Duration;

use crate::scaling::{Load, Recommendation, ScalingPolicy, Traffic};
use crate::time::Time;
use crate::window::SlidingMax;

/// The mean number of requests since a while ago, from readings of their sum over time.
#[derive(Clone, Debug, Default)]
struct Mean {
    readings: Vec<(Time, f64)>,
}

impl Mean {
    fn over(&mut self, span: Duration, traffic: &Traffic, now: Time) -> f64 {
        let sum = traffic.load_seconds(now);
        self.readings.push((now, sum));
        let old = self.readings.iter().rposition(|(at, _)| now.since(*at) >= span).unwrap_or(0);
        self.readings.drain(..old);
        let (at, before) = self.readings[0];
        let seconds = now.since(at).as_secs_f64();
        if seconds > 0.0 { (sum - before) / seconds } else { 0.0 }
    }
}

/// Kubernetes' Horizontal Pod Autoscaler over the requests per pod, to be asked every 15 s.
///
/// 1. `wanted = ceil(requests / target)`; as it is where requests per pod are within a tenth of the target.
/// 2. Pods that are not ready count as idle when that leads up.
/// 3. Up at most to twice the size, or by four; down to the highest recommendation of five minutes; not below 1.
#[derive(Clone, Debug)]
pub struct HorizontalPodAutoscaler {
    /// Requests per pod.
    pub target: f64,
    mean: Mean,
    recommended: SlidingMax,
}

impl HorizontalPodAutoscaler {
    /// How often it looks.
    pub const INTERVAL: Duration = Duration::from_secs(15);

    /// With this target.
    pub fn new(target: f64) -> Self {
        Self { target, mean: Mean::default(), recommended: SlidingMax::default() }
    }
}

impl ScalingPolicy for HorizontalPodAutoscaler {
    fn name(&self) -> &'static str {
        "hpa"
    }

    fn recommend(&mut self, load: &Load, traffic: &Traffic, now: Time) -> Recommendation {
        let requests = self.mean.over(Self::INTERVAL, traffic, now);
        let size = load.size.max(1);
        let ready = f64::from(load.ready.max(1));
        let all = f64::from((load.ready + load.starting).max(1));
        let up = requests / (ready * self.target) > 1.0;
        let ratio = requests / (self.target * if up { all } else { ready });
        let kept = (ratio - 1.0).abs() <= 0.1 || (up && ratio < 1.0);
        let wanted = if kept { size } else { (requests / self.target).ceil().max(1.0) as u32 };
        let wanted = wanted.min((2 * size).max(size + 4));
        let highest = self.recommended.push(wanted, Duration::from_secs(300), now);
        let size = if wanted >= size { wanted } else { highest.min(size) };
        Recommendation::new(size, format!("{requests:.2} requests, {} per pod", self.target))
    }
}

/// Ray Serve's default policy, to be asked every second.
///
/// 1. `wanted = ceil(requests over the last 30 s / target)`, not below 1.
/// 2. Up when that was more than the size for 30 s on end, down when it was less for 600 s on end.
#[derive(Clone, Debug)]
pub struct RayServe {
    /// Requests per replica.
    pub target: f64,
    mean: Mean,
    // Since when it is to go up (or down).
    verdict: Option<(bool, Time)>,
}

impl RayServe {
    /// With this target.
    pub fn new(target: f64) -> Self {
        Self { target, mean: Mean::default(), verdict: None }
    }
}

impl ScalingPolicy for RayServe {
    fn name(&self) -> &'static str {
        "ray"
    }

    fn recommend(&mut self, load: &Load, traffic: &Traffic, now: Time) -> Recommendation {
        let requests = self.mean.over(Duration::from_secs(30), traffic, now);
        let wanted = ((requests / self.target).ceil() as u32).max(1);
        let size = load.size.max(1);
        let reason = format!("{requests:.2} requests, {} per replica", self.target);
        if wanted == size {
            self.verdict = None;
            return Recommendation::new(size, reason);
        }
        let up = wanted > size;
        let (_, since) = *self.verdict.insert(match self.verdict {
            Some((before, since)) if before == up => (up, since),
            Some(_) | None => (up, now),
        });
        let delay = Duration::from_secs(if up { 30 } else { 600 });
        if now.since(since) < delay {
            return Recommendation::new(size, reason);
        }
        self.verdict = None;
        Recommendation::new(wanted, reason)
    }
}
