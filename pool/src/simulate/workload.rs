//! Who arrives when, and for how long an instance works on it.

use std::collections::HashMap;
use std::time::Duration;

use crate::time::Time;

/// One request of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// When it arrives.
    pub arrival: Time,
    /// How long an instance works on it.
    pub service: Duration,
    /// Whose it is, as a queue tells clients apart that is fair to them; 0 where nobody is told apart. In a workload that
    /// was read, the place of the name in [`Workload::clients`], from 1.
    pub client: u64,
}

/// Requests in the order of their arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    jobs: Vec<Job>,
    span: Duration,
    clients: Vec<String>,
}

/// Why a text is no trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for TraceError {}

/// Longer times in a trace are mistakes: ten years.
const LONGEST_S: f64 = 10.0 * 365.0 * 86_400.0;

impl Workload {
    /// Puts requests in order; it lasts at least until the last arrival.
    pub fn new(mut jobs: Vec<Job>, span: Duration) -> Self {
        jobs.sort_by_key(|job| job.arrival);
        let last = jobs.last().map_or(Duration::ZERO, |job| job.arrival.since(Time::ZERO));
        Self { jobs, span: span.max(last), clients: Vec::new() }
    }

    /// Reads a trace: CSV with the columns `arrival_s,service_s`, a third one `client` perhaps, and any others, which are
    /// not looked at; a first line that names the columns may be there, and says which one is `client`. Empty lines and those that begin with `#` are comments. The first arrival
    /// is moved to the beginning.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut jobs = Vec::new();
        let mut clients = Clients::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let header = jobs.is_empty() && line.starts_with("arrival_s");
            if header {
                clients.column = line.split(',').position(|name| name.trim() == "client");
            }
            if line.is_empty() || line.starts_with('#') || header {
                continue;
            }
            let error = |what| TraceError { line: index + 1, what };
            let mut fields = line.split(',').map(str::trim);
            let arrival = seconds(fields.next(), "arrival_s").map_err(error)?;
            let service = seconds(fields.next(), "service_s").map_err(error)?;
            let client = clients.number(line);
            jobs.push(Job { arrival: Time::ZERO + arrival, service, client });
        }
        let Some(first) = jobs.iter().map(|job| job.arrival).min() else {
            return Err(TraceError { line: 1, what: "there is no request in it".into() });
        };
        let begin = first.since(Time::ZERO);
        jobs.iter_mut().for_each(|job| job.arrival = job.arrival - begin);
        Ok(Self { clients: clients.names, ..Self::new(jobs, Duration::ZERO) })
    }

    /// The requests, in the order of their arrival.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The names of its clients, in the order in which they are first met; none where it does not tell them apart.
    pub fn clients(&self) -> &[String] {
        &self.clients
    }

    /// How long it lasts.
    pub fn span(&self) -> Duration {
        self.span
    }

    /// The sum of all service times, in seconds: less instance-seconds are impossible where an instance works on one
    /// request at a time.
    pub fn work(&self) -> f64 {
        self.jobs.iter().map(|job| job.service.as_secs_f64()).sum()
    }
}

/// The column of clients: a number for each name.
struct Clients {
    column: Option<usize>,
    names: Vec<String>,
    numbers: HashMap<String, u64>,
}

impl Default for Clients {
    fn default() -> Self {
        Self { column: Some(2), names: Vec::new(), numbers: HashMap::new() }
    }
}

impl Clients {
    fn number(&mut self, line: &str) -> u64 {
        let name = self.column.and_then(|column| line.split(',').nth(column)).map_or("", str::trim);
        if name.is_empty() {
            return 0;
        }
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.names.push(name.to_owned());
        let number = self.names.len() as u64;
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

fn seconds(field: Option<&str>, name: &str) -> Result<Duration, String> {
    let text = field.filter(|text| !text.is_empty()).ok_or_else(|| format!("{name} is missing"))?;
    let number: f64 =
        text.parse().map_err(|_| format!("{name} must be a number of seconds, got {text:?}"))?;
    if (0.0..=LONGEST_S).contains(&number) {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err(format!("{name} must be from 0 to {LONGEST_S}, got {text}"))
    }
}
