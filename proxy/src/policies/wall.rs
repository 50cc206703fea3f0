//! The time of day in a time zone.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A time zone: one of the tz database by name, or the machine's.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The machine's own; UTC where it does not say.
    pub fn local() -> Self {
        Self(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    /// The one of that name, such as `Europe/Paris`.
    pub fn named(name: &str) -> Result<Self, String> {
        TimeZone::get(name).map(Self).map_err(|_| format!("no time zone is named {name:?}"))
    }

    /// Its name, where it has one.
    pub fn name(&self) -> Option<&str> {
        self.0.iana_name()
    }

    /// The time there, so many seconds after 1970-01-01T00:00:00Z.
    pub fn at(&self, unix_time: f64) -> Zoned {
        let seconds = unix_time.clamp(0.0, 250_000_000_000.0) as i64;
        Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.0.clone())
    }
}
