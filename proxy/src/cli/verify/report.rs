//! What `verify` prints at its end.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::counters::Counters;
use super::faults::Kills;
use super::load::Tally;
use crate::cli::client::ClientError;
use crate::cli::output;

/// Everything that was seen and counted.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) name: String,
    /// How long requests were sent.
    pub(super) sending: Duration,
    pub(super) tally: Tally,
    pub(super) kills: Kills,
    /// What the proxy counted meanwhile.
    pub(super) counted: Result<Counters, ClientError>,
}

impl Report {
    /// Whether something was answered and nothing lost, by the clients' count and by the proxy's.
    pub(super) fn passed(&self) -> bool {
        let counted = self.counted.as_ref().is_ok_and(|counted| counted.lost <= 0.0);
        self.tally.answered > 0 && self.tally.lost() == 0 && counted
    }

    /// The table and the verdict.
    pub(super) fn text(&self) -> String {
        format!("{}\n\n{}\n", self.table(), self.verdict())
    }

    fn table(&self) -> String {
        let tally = &self.tally;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let mut row = |name: &str, value: String, note: String| {
            table.add_row([name.to_owned(), value, note]);
        };
        row("sent", tally.sent.to_string(), format!("in {}", output::duration(self.sending)));
        row("answered", tally.answered.to_string(), statuses(tally));
        if tally.refused() > 0 {
            row("refused", tally.refused().to_string(), refusals(tally));
        }
        row("lost", tally.lost().to_string(), losses(tally));
        if tally.open() > 0 {
            row("unfinished", tally.open().to_string(), "when it was interrupted".into());
        }
        match &self.counted {
            Ok(counted) => {
                row("lost, by the proxy's count", format!("{}", counted.lost), String::new());
                row("replays", format!("{}", counted.replays), String::new());
            }
            Err(error) => row("lost, by the proxy's count", "unknown".into(), error.to_string()),
        }
        row("kills", self.kills.done.to_string(), kills(&self.kills));
        let latency = &tally.latency;
        row("latency p50", output::latency(latency.quantile(0.5)), String::new());
        row("latency p99", output::latency(latency.quantile(0.99)), String::new());
        row("latency max", output::latency(latency.max()), String::new());
        row("longest wait for a slot", output::latency(tally.longest_wait), String::new());
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }

    fn verdict(&self) -> String {
        if self.tally.sent == 0 {
            return format!("{}: nothing was sent, so nothing is shown", self.name);
        }
        if self.tally.answered == 0 && self.tally.lost() == 0 {
            let first = self.tally.refusals.values().map(|(_, first)| format!(": {first}")).next();
            return format!("{}: nothing was answered{}", self.name, first.unwrap_or_default());
        }
        match (&self.counted, self.passed()) {
            (_, true) => match self.tally.refused() {
                0 => format!("{}: nothing was lost", self.name),
                _ => format!("{}: nothing was lost of what was not refused", self.name),
            },
            (Err(_), false) if self.tally.lost() == 0 => {
                format!("{}: no client lost anything, but the proxy's own count is unknown", self.name)
            }
            (Ok(_) | Err(_), false) => format!("{}: requests were LOST", self.name),
        }
    }
}

fn statuses(tally: &Tally) -> String {
    list(tally.statuses.iter().map(|(status, count)| format!("{count} with status {status}")))
}

fn refusals(tally: &Tally) -> String {
    list(tally.refusals.iter().map(|(kind, (count, _))| format!("{count}: {kind}")))
}

fn losses(tally: &Tally) -> String {
    list(tally.losses.iter().map(|(what, count)| format!("{count}: {what}")))
}

fn kills(kills: &Kills) -> String {
    let nobody =
        (kills.nobody_ready > 0).then(|| format!("{} times no instance was ready", kills.nobody_ready));
    let failed = kills.failed.as_ref().map(|why| format!("not always possible: {why}"));
    list(nobody.into_iter().chain(failed))
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::load::Refusal;
    use super::*;

    fn report() -> Report {
        let mut tally = Tally { sent: 1_200, answered: 1_200, ..Tally::default() };
        tally.statuses.extend([(200, 1_199), (404, 1)]);
        for millis in [20, 21, 3_000] {
            tally.latency.record(Duration::from_millis(millis));
        }
        tally.longest_wait = Duration::from_micros(2_710_400);
        let counted = Ok(Counters { lost: 0.0, replays: 9.0 });
        let kills = Kills { done: 9, nobody_ready: 0, failed: None };
        Report { name: "calc".into(), sending: Duration::from_secs(30), tally, kills, counted }
    }

    #[test]
    fn nothing_lost_passes() {
        let report = report();
        let expected = "\
sent                           1200  in 30s
answered                       1200  1199 with status 200, 1 with status 404
lost                              0
lost, by the proxy's count        0
replays                           9
kills                             9
latency p50                 21.2 ms
latency p99                  3.00 s
latency max                  3.00 s
longest wait for a slot      2.71 s

calc: nothing was lost
";
        assert_eq!(report.text(), expected);
        assert!(report.passed());
    }

    #[test]
    fn whatever_is_lost_fails_and_is_named() {
        let mut seen = report();
        seen.tally.losses.insert("attempts-exhausted".into(), 2);
        let mut counted = report();
        counted.counted = Ok(Counters { lost: 1.0, replays: 0.0 });
        let mut nothing = report();
        nothing.tally = Tally::default();
        let mut unknown = report();
        unknown.counted =
            Err(ClientError::NoAnswer { url: "http://x".into(), why: "connection refused".into() });
        for (report, said) in [
            (seen, "2: attempts-exhausted"),
            (counted, "calc: requests were LOST"),
            (nothing, "nothing was sent"),
            (unknown, "the proxy's own count is unknown"),
        ] {
            assert!(!report.passed(), "{said}");
            assert!(report.text().contains(said), "{}", report.text());
        }
    }

    #[test]
    fn what_is_refused_is_no_loss_and_no_proof() {
        let refusal = Refusal::told("queue-full", "the queue of calc is full");
        let mut some = report();
        some.tally.refusals.insert("queue-full".into(), (7, refusal.clone()));
        assert!(some.passed() && some.text().contains("7: queue-full"), "{}", some.text());
        let mut all = report();
        all.tally = Tally { sent: 7, ..Tally::default() };
        all.tally.refusals.insert("queue-full".into(), (7, refusal));
        assert!(!all.passed() && !all.text().contains("LOST"), "{}", all.text());
        let said = "calc: nothing was answered: queue-full: the queue of calc is full; ask for less";
        assert!(all.text().contains(said), "{}", all.text());
    }

    #[test]
    fn an_interrupted_run_shows_what_there_is() {
        let mut report = report();
        report.tally.sent += 3;
        assert!(report.text().contains("unfinished"), "{}", report.text());
        assert!(report.passed());
    }
}
