//! Sizes by the clock: `{ policy = "schedule", lines = { "0 8 * * mon-fri" = 5, "0 20 * * *" = 1 } }`.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use longshore_pool::{Load, Recommendation, ScalingPolicy, Time, Traffic};
use serde_json::{Value as Json, json};

use super::wall::Zone;

/// Cron lines with the sizes that they set.
///
/// 1. The line whose time came last is in force; of several at the same minute the one with the largest size.
/// 2. Where no line's time has ever come, `otherwise`.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    lines: Vec<Line>,
    zone: Zone,
    otherwise: u32,
    present: Option<Present>,
}

#[derive(Clone, Debug, PartialEq)]
struct Line {
    text: String,
    cron: Cron,
    size: u32,
}

/// What is in force, and between which times, so that the calendar is not asked each second.
#[derive(Clone, Debug, PartialEq)]
struct Present {
    size: u32,
    reason: String,
    from: f64,
    until: f64,
}

/// A line of five fields: minute, hour, day of month, month, day of week.
fn cron(text: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| {
        format!("{text:?} is no cron line (minute hour day-of-month month day-of-week): {error}")
    })
}

impl Schedule {
    /// Understands the lines; the error names the first that is wrong.
    pub fn new(lines: &[(String, u32)], zone: Zone, otherwise: u32) -> Result<Self, String> {
        let line =
            |(text, size): &(String, u32)| Ok(Line { text: text.clone(), cron: cron(text)?, size: *size });
        let lines = lines.iter().map(line).collect::<Result<Vec<_>, String>>()?;
        Ok(Self { lines, zone, otherwise, present: None })
    }

    /// The same lines with everything else at its default.
    #[must_use]
    pub fn usual(self) -> Self {
        Self { zone: Zone::local(), otherwise: 0, ..self }
    }

    /// As it is written.
    pub fn settings(&self) -> Json {
        let lines: serde_json::Map<String, Json> =
            self.lines.iter().map(|line| (line.text.clone(), line.size.into())).collect();
        json!({ "lines": lines, "timezone": self.zone.name(), "size": self.otherwise })
    }

    fn look(&self, unix_time: f64) -> Present {
        let now = self.zone.at(unix_time);
        let last = |line: &Line| line.cron.find_previous_occurrence(&now, true).ok();
        let next = |line: &Line| line.cron.find_next_occurrence(&now, false).ok();
        let in_force = self
            .lines
            .iter()
            .filter_map(|line| Some((last(line)?, line)))
            .max_by(|(one, line), (other, rival)| one.cmp(other).then(line.size.cmp(&rival.size)));
        let until =
            self.lines.iter().filter_map(next).map(|time| seconds(&time)).fold(f64::INFINITY, f64::min);
        match in_force {
            Some((since, Line { text, size, .. })) => Present {
                size: *size,
                reason: format!("{text:?} since {}", since.strftime("%F %H:%M %Z")),
                from: seconds(&since),
                until,
            },
            None => Present {
                size: self.otherwise,
                reason: "no line's time has come yet".into(),
                from: 0.0,
                until,
            },
        }
    }
}

fn seconds(time: &Zoned) -> f64 {
    time.timestamp().as_second() as f64
}

impl ScalingPolicy for Schedule {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn recommend(&mut self, load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        let holds = |present: &Present| (present.from..present.until).contains(&load.unix_time);
        let present = match self.present.take().filter(holds) {
            Some(present) => present,
            None => self.look(load.unix_time),
        };
        let said = Recommendation::new(present.size, present.reason.clone());
        self.present = Some(present);
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(lines: &[(&str, u32)], zone: &str) -> Schedule {
        let lines: Vec<_> = lines.iter().map(|(line, size)| ((*line).to_owned(), *size)).collect();
        Schedule::new(&lines, Zone::named(zone).unwrap(), 7).unwrap()
    }

    fn size(schedule: &mut Schedule, time: &str) -> (u32, String) {
        let time: jiff::Timestamp = time.parse().unwrap();
        let load = Load { unix_time: time.as_second() as f64, ..Load::default() };
        let said = schedule.recommend(&load, &Traffic::new(Time::ZERO), Time::ZERO);
        (said.size, said.reason)
    }

    #[test]
    fn the_line_whose_time_came_last_is_in_force() {
        let mut day = schedule(&[("0 8 * * mon-fri", 5), ("0 20 * * *", 1)], "UTC");
        // 2026-11-20 is a Friday.
        let steps = [
            ("2026-11-20T07:59:59Z", 1),
            ("2026-11-20T08:00:00Z", 5),
            ("2026-11-20T19:59:59Z", 5),
            ("2026-11-20T20:00:00Z", 1),
            ("2026-11-21T12:00:00Z", 1),
            ("2026-11-23T08:00:01Z", 5),
            // The clock was set back.
            ("2026-11-21T12:00:00Z", 1),
        ];
        for (time, expected) in steps {
            assert_eq!(size(&mut day, time).0, expected, "{time}");
        }
        let reason = size(&mut day, "2026-11-23T09:30:00Z").1;
        assert_eq!(reason, "\"0 8 * * mon-fri\" since 2026-11-23 08:00 UTC");
    }

    #[test]
    fn times_are_those_of_the_zone_in_summer_and_in_winter() {
        let mut paris = schedule(&[("0 8 * * *", 5), ("0 20 * * *", 1)], "Europe/Paris");
        for (time, expected) in [
            ("2026-07-01T05:59:00Z", 1),
            ("2026-07-01T06:00:00Z", 5),
            ("2026-12-01T06:59:00Z", 1),
            ("2026-12-01T07:00:00Z", 5),
        ] {
            assert_eq!(size(&mut paris, time).0, expected, "{time}");
        }
    }

    #[test]
    fn of_two_lines_at_the_same_time_the_larger_size_counts() {
        for lines in [[("0 8 * * *", 2), ("0 8 1 * *", 9)], [("0 8 1 * *", 9), ("0 8 * * *", 2)]] {
            let mut both = schedule(&lines, "UTC");
            assert_eq!(size(&mut both, "2026-11-01T12:00:00Z").0, 9);
            assert_eq!(size(&mut both, "2026-11-02T12:00:00Z").0, 2);
        }
    }

    #[test]
    fn what_is_no_cron_line_is_told() {
        for wrong in ["", "x", "0 8 * *", "61 * * * *", "0 0 8 * * *", "@never"] {
            let error = Schedule::new(&[(wrong.into(), 1)], Zone::named("UTC").unwrap(), 0).unwrap_err();
            assert!(error.contains("is no cron line"), "{wrong}: {error}");
        }
        assert!(Zone::named("Mars/Olympus").is_err());
    }

    #[test]
    fn before_any_line_the_size_is_the_other_one() {
        let mut never = schedule(&[("0 0 30 2 *", 3)], "UTC");
        assert_eq!(size(&mut never, "2026-11-20T12:00:00Z"), (7, "no line's time has come yet".into()));
    }
}
