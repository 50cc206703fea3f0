//! How many requests arrive a second, how evenly, and whether they are rising.

use crate::scaling::Traffic;

/// Windows in seconds, the longest first.
const WINDOWS: [u64; 8] = [320, 160, 80, 40, 20, 10, 5, 2];

/// What is known of arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Demand {
    /// Arrivals a second to reckon with.
    pub(super) rate: f64,
    /// The window in seconds over which they were steady.
    pub(super) over: f64,
    /// Variance over mean of counts: 1 for arrivals that know nothing of each other.
    pub(super) burstiness: f64,
    /// Arrivals a second over the longest window.
    pub(super) usual: f64,
    /// Whether the rate is that of a trend.
    pub(super) rising: bool,
}

/// Arrivals in each whole second, the newest first, with their running sums.
struct Counts {
    sums: Vec<f64>,
}

impl Demand {
    /// Reckons from the arrivals so far; `service` and `start` are the service and start time in seconds.
    pub(super) fn measure(traffic: &Traffic, service: f64, start: f64) -> Self {
        let counts = Counts::new(traffic);
        if counts.len() == 0 {
            return Self { over: 1.0, burstiness: 1.0, ..Self::default() };
        }
        let burstiness = counts.burstiness(service);
        let over = counts.steady_window(burstiness);
        let rate = counts.mean(over);
        let trend = counts.trend(over.max(3.0 * start.min(100.0)).ceil() as u64, burstiness, start);
        let usual = counts.mean(WINDOWS[0] as f64);
        Self { rate: rate.max(trend.unwrap_or(0.0)), over, burstiness, usual, rising: trend > Some(rate) }
    }
}

impl Counts {
    fn new(traffic: &Traffic) -> Self {
        let mut sums = Vec::with_capacity(WINDOWS[0] as usize + 1);
        sums.push(0.0);
        let mut sum = 0.0;
        for count in traffic.arrivals(WINDOWS[0]) {
            sum += f64::from(count);
            sums.push(sum);
        }
        Self { sums }
    }

    fn len(&self) -> usize {
        self.sums.len() - 1
    }

    /// Arrivals from the `from`th to before the `to`th second, back from now.
    fn sum(&self, from: usize, to: usize) -> f64 {
        self.sums[to.min(self.len())] - self.sums[from.min(self.len())]
    }

    /// Arrivals a second over so many seconds, or over as many as are known.
    fn mean(&self, seconds: f64) -> f64 {
        let seconds = (seconds as usize).clamp(1, self.len());
        self.sum(0, seconds) / seconds as f64
    }

    /// Half the mean squared difference of one bin to the next, over their mean: blind to slow changes. Bins are as long
    /// as a service, since it is among the requests that meet at work that unevenness shows.
    fn burstiness(&self, service: f64) -> f64 {
        let width = service.round().clamp(1.0, 10.0) as usize;
        let bins: Vec<f64> =
            (0..self.len() / width).map(|bin| self.sum(bin * width, (bin + 1) * width)).collect();
        let sum: f64 = bins.iter().sum();
        if bins.len() < 8 || sum < 10.0 {
            return 1.0;
        }
        let squares: f64 = bins.windows(2).map(|pair| (pair[0] - pair[1]).powi(2)).sum();
        let variance = squares / 2.0 / (bins.len() - 1) as f64;
        (variance / (sum / bins.len() as f64)).clamp(1.0, 10.0)
    }

    /// The longest window over which the rate has not changed, as far as every shorter one tells (Lepski's choice).
    fn steady_window(&self, burstiness: f64) -> f64 {
        let known = self.len() as u64;
        let steady = |(index, long): &(usize, u64)| {
            let mean = self.mean(*long as f64);
            WINDOWS[index + 1..].iter().filter(|short| **short <= known).all(|short| {
                let short = *short as f64;
                let noise = (burstiness * mean.max(0.5 / short) / short).sqrt();
                (self.mean(short) - mean).abs() <= 3.5 * noise
            })
        };
        let windows = WINDOWS.into_iter().enumerate();
        let longest = windows.into_iter().find(steady).map_or(2, |(_, seconds)| seconds);
        longest.min(known).max(1) as f64
    }

    /// Where a rise leads by the time that an instance started now is ready, if it is one: a slope that is beyond doubt,
    /// and that the newest arrivals follow (so that a step is not taken for one). At most twice the present mean.
    fn trend(&self, seconds: u64, burstiness: f64, start: f64) -> Option<f64> {
        let n = usize::try_from(seconds).ok()?.min(self.len());
        let total = self.sum(0, n);
        if n < 4 || total < 30.0 {
            return None;
        }
        let mean = total / n as f64;
        let centre = (n as f64 - 1.0) / 2.0;
        // The newest second is the first one, but time runs from the oldest.
        let age = |index: usize| n as f64 - 1.0 - index as f64 - centre;
        let products: f64 = (0..n).map(|index| age(index) * self.sum(index, index + 1)).sum();
        let spread = n as f64 * (n as f64 * n as f64 - 1.0) / 12.0;
        let slope = products / spread;
        if slope <= 2.5 * (mean * burstiness / spread).sqrt() {
            return None;
        }
        let follows = |newest: usize| {
            let newest = newest.clamp(1, n);
            let line = mean + slope * (centre - (newest as f64 - 1.0) / 2.0);
            let noise = (burstiness * line.max(0.5 / newest as f64) / newest as f64).sqrt();
            (self.mean(newest as f64) - line).abs() <= 2.5 * noise
        };
        let steady = [10, 20, n / 4].into_iter().all(follows);
        steady.then(|| (mean + slope * (centre + start + 1.0)).min(2.0 * mean))
    }
}
