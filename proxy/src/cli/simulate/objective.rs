//! `p95 wait < 2s`: what is to be reached.

use std::fmt;
use std::time::Duration;

use longshore_pool::simulate::Report;

use crate::config::parse_duration;

/// So large a part of all requests waits for less than so long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Objective {
    /// From 0 to 1.
    pub(super) part: f64,
    pub(super) wait: Duration,
}

impl Objective {
    /// Understands `p95 wait < 2s`, `p99 < 500ms`, or `2s`, which is of p95.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "an objective is `p95 wait < 2s`, or `2s`".to_owned();
        let Some((quantile, wait)) = text.split_once('<') else {
            return Ok(Self { part: 0.95, wait: above_zero(text)? });
        };
        let quantile = quantile.trim();
        let name = quantile.strip_suffix("wait").unwrap_or(quantile).trim();
        let percent: f64 = name.strip_prefix('p').and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        if !(1.0..100.0).contains(&percent) {
            return Err(wrong());
        }
        Ok(Self { part: percent / 100.0, wait: above_zero(wait.trim_start_matches('=').trim())? })
    }

    /// How far a run is from it, in seconds; 0 where it is met. What was refused or waited in vain has waited for ever.
    pub(super) fn missed_by(&self, report: &Report) -> f64 {
        let served = report.requests.saturating_sub(report.rejected + report.expired);
        if report.requests == 0 {
            return 0.0;
        }
        let part = self.part * report.requests as f64 / served.max(1) as f64;
        if part > 1.0 || served == 0 {
            return f64::INFINITY;
        }
        (report.wait(part) - self.wait.as_secs_f64()).max(0.0)
    }
}

fn above_zero(text: &str) -> Result<Duration, String> {
    parse_duration(text.trim())
        .and_then(|wait| if wait.is_zero() { Err("an objective is above 0".into()) } else { Ok(wait) })
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A percentage that went through a division shows no trace of it.
        let percent = (self.part * 1e8).round() / 1e6;
        write!(f, "p{percent} wait < {}", crate::policies::text(self.wait))
    }
}
