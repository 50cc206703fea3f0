//! Workloads made from a few numbers and a seed.

use std::f64::consts::PI;
use std::time::Duration;

use fastrand::Rng;

use super::workload::{Job, Workload};
use crate::time::Time;

/// A workload to be made. The same values make the same workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synthetic {
    /// How arrivals change over time.
    pub shape: Shape,
    /// Arrivals a second, on average over the span.
    pub rate: f64,
    /// How long requests take.
    pub services: Services,
    /// How long it lasts.
    pub span: Duration,
    /// Decides every random number.
    pub seed: u64,
}

/// How the rate of arrivals (a Poisson process) changes over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Not at all.
    Steady,
    /// Two thirds of the mean, and eleven times that for half a minute every ten minutes.
    Burst,
    /// Rises on a straight line, from a fifteenth of the mean to nearly twice the mean.
    Ramp,
    /// Twice the mean for two minutes, then nothing for two minutes.
    OnOff,
    /// From 0 to twice the mean and back once, as over a day.
    Daily,
    /// Half the mean, and three halves of it from the middle on.
    Step,
}

impl Shape {
    /// Every shape with its name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("steady", Self::Steady),
        ("burst", Self::Burst),
        ("ramp", Self::Ramp),
        ("onoff", Self::OnOff),
        ("daily", Self::Daily),
        ("step", Self::Step),
    ];

    /// The rate at `t` of `span` seconds as a multiple of the mean, and the highest that it gets.
    fn at(self, t: f64, span: f64) -> f64 {
        match self {
            Self::Steady => 1.0,
            Self::Burst if t % 600.0 >= 570.0 => 22.0 / 3.0,
            Self::Burst => 2.0 / 3.0,
            Self::Ramp => 1.0 / 15.5 + (29.0 / 15.5) * t / span,
            Self::OnOff if t % 240.0 < 120.0 => 2.0,
            Self::OnOff => 0.0,
            Self::Daily => 1.0 - (2.0 * PI * t / span).cos(),
            Self::Step if t < span / 2.0 => 0.5,
            Self::Step => 1.5,
        }
    }

    const fn highest(self) -> f64 {
        match self {
            Self::Steady => 1.0,
            Self::Burst => 22.0 / 3.0,
            Self::Ramp | Self::OnOff | Self::Daily | Self::Step => 2.0,
        }
    }
}

/// How long requests take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Services {
    /// Lognormal: mean in seconds, coefficient of variation (0: all the same).
    Lognormal {
        /// Seconds.
        mean: f64,
        /// Standard deviation over mean.
        cv: f64,
    },
    /// Pareto with this exponent, cut off at 300 s: the mean in seconds is that without the cut.
    Pareto {
        /// Seconds.
        mean: f64,
        /// Above 1; the smaller, the heavier the tail.
        alpha: f64,
    },
}

impl Services {
    const CUT: f64 = 300.0;

    fn draw(self, rng: &mut Rng) -> Duration {
        let seconds = match self {
            Self::Lognormal { mean, cv } => {
                let sigma2 = (1.0 + cv * cv).ln();
                (mean.ln() - sigma2 / 2.0 + sigma2.sqrt() * gaussian(rng)).exp()
            }
            Self::Pareto { mean, alpha } => {
                let least = mean * (alpha - 1.0) / alpha;
                (least * above_zero(rng).powf(-1.0 / alpha)).min(Self::CUT)
            }
        };
        Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))
    }
}

impl Synthetic {
    /// Makes it: candidates at the highest rate, each kept with the chance that makes the rate right.
    pub fn make(&self) -> Workload {
        let mut rng = Rng::with_seed(self.seed);
        let (span, highest) = (self.span.as_secs_f64(), self.shape.highest());
        let mut jobs = Vec::new();
        let mut t = 0.0;
        loop {
            t -= above_zero(&mut rng).ln() / (self.rate * highest);
            // Where the rate is 0 there is nobody, and where it is not a number neither.
            if t >= span || t.is_nan() {
                return Workload::new(jobs, self.span);
            }
            if rng.f64() * highest < self.shape.at(t, span) {
                let arrival = Time::ZERO + Duration::from_secs_f64(t);
                jobs.push(Job { arrival, service: self.services.draw(&mut rng), client: 0 });
            }
        }
    }
}

fn above_zero(rng: &mut Rng) -> f64 {
    1.0 - rng.f64()
}

/// Box and Muller's method.
fn gaussian(rng: &mut Rng) -> f64 {
    (-2.0 * above_zero(rng).ln()).sqrt() * (2.0 * PI * rng.f64()).cos()
}
