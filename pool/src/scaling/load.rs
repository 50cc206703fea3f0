//! What every policy sees, and every decision keeps.

use std::time::Duration;

/// The load of a service at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests waiting for a slot, those that wait elsewhere for their turn to arrive included.
    pub queue: usize,
    /// How long the oldest of those that have arrived has waited.
    pub oldest_wait: Duration,
    /// Requests that instances work on.
    pub in_flight: usize,
    /// Instances that take requests.
    pub ready: u32,
    /// Instances being started or resumed, those that are to be in standby not counted.
    pub starting: u32,
    /// Instances in standby.
    pub standby: u32,
    /// The size wanted now.
    pub size: u32,
    /// Requests that one instance works on at once; 0 is no limit.
    pub concurrency: u32,
    /// Requests that arrived, a second, over the last half minute.
    pub arrival_rate: f64,
    /// Mean time in seconds that an instance works on a request, over the last 500 that were answered; 0 before that.
    pub service_time: f64,
    /// Seconds from the decision to start an instance until it is ready, as lately measured; 0 before that.
    pub start_time: f64,
    /// The time of day, in seconds since 1970-01-01T00:00:00Z; 0 when nobody has said.
    pub unix_time: f64,
}

impl Load {
    /// Requests that wait or are worked on.
    pub const fn requests(&self) -> usize {
        self.queue + self.in_flight
    }
}
