//! What is counted before it belongs to a service, and of the spans.

use prometheus::{GaugeVec, IntCounter, IntCounterVec};

use super::Metrics;

impl Metrics {
    /// What counts the spans of recorded requests.
    pub fn spans(&self) -> SpanCounters {
        let [sent, dropped] = ["sent", "dropped"].map(|result| self.spans.with_label_values(&[result]));
        SpanCounters { sent, dropped }
    }

    /// What counts what comes before it belongs to a service.
    pub fn entrance(&self) -> Entrance {
        // A rate over a counter that appears with its first increment misses that increment.
        for kind in
            ["bad-request", "client-limit", "headers-too-large", "no-service", "overloaded", "unauthorized"]
        {
            self.refused.with_label_values(&[kind]);
        }
        let ends = [Handshake::Completed, Handshake::Failed, Handshake::TimedOut, Handshake::Refused];
        for end in ends {
            self.handshakes.with_label_values(&[end.name()]);
        }
        for result in ["applied", "refused"] {
            self.tls_reloads.with_label_values(&[result]);
        }
        let tls = Tls {
            handshakes: ends.map(|end| self.handshakes.with_label_values(&[end.name()])),
            reloads: self.tls_reloads.clone(),
            expires: self.tls_expires.clone(),
        };
        Entrance { refused: Refused(self.refused.clone()), tls }
    }
}

/// Counts what comes before it belongs to a service.
pub struct Entrance {
    /// What is refused.
    pub refused: Refused,
    /// What speaks TLS.
    pub tls: Tls,
}

/// Tells of TLS.
pub struct Tls {
    /// In the order of [`Handshake`].
    handshakes: [IntCounter; 4],
    reloads: IntCounterVec,
    expires: GaugeVec,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug)]
pub enum Handshake {
    /// The connection may speak HTTP.
    Completed,
    /// Nothing was agreed on, or the client has left.
    Failed,
    /// It took too long.
    TimedOut,
    /// Too many were under way.
    Refused,
}

impl Handshake {
    const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Refused => "refused",
        }
    }
}

impl Tls {
    /// A handshake has ended so.
    pub fn handshake(&self, end: Handshake) {
        self.handshakes[end as usize].inc();
    }

    /// The files of the certificate have changed. `result` is `applied` or `refused`.
    pub fn reloaded(&self, result: &str) {
        self.reloads.with_label_values(&[result]).inc();
    }

    /// The certificate in force expires then, in Unix time.
    pub fn expires(&self, unix: i64) {
        self.expires.with_label_values::<&str>(&[]).set(unix as f64);
    }
}

/// Counts what is refused before a service is chosen.
pub struct Refused(IntCounterVec);

impl Refused {
    /// A request or a connection was refused, with this kind of problem.
    pub fn count(&self, kind: &str) {
        self.0.with_label_values(&[kind]).inc();
    }
}

/// Counts spans, by what became of them.
#[derive(Clone)]
pub struct SpanCounters {
    /// The collector has them.
    pub sent: IntCounter,
    /// Nobody has them: too many waited, or the collector did not take them.
    pub dropped: IntCounter,
}
