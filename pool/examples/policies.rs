//! The figures of docs/policies.md, as Markdown on stdout: every policy, and the rules of other autoscalers, over
//! synthetic workloads and recorded traces, at cold starts of 0.5, 5 and 60 s. Run by `./bench policies`.
//!
//! The same seeds, the same traces, the same figures: nothing here depends on the machine.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_pool::scaling::{Concurrency, Queue, Wait, WaitSettings};
use longshore_pool::simulate::{
    HorizontalPodAutoscaler, RayServe, Report, Services, Shape, Simulation, Synthetic, Workload, bound,
};
use longshore_pool::{PoolConfig, ScalingPolicy};

const HOUR: u64 = 3_600;
const OBJECTIVE: Duration = Duration::from_secs(1);
const COLD_STARTS: [f64; 3] = [0.5, 5.0, 60.0];
const SEEDS: [u64; 3] = [1, 2, 3];

/// A policy and how it is run.
struct Contestant {
    name: &'static str,
    interval: Duration,
    make: fn(&Workload, Duration) -> Box<dyn ScalingPolicy>,
}

const CONTESTANTS: [Contestant; 7] = [
    Contestant {
        name: "queue",
        interval: Duration::from_secs(10),
        make: |_, _| Box::new(Queue::new(1, 2_000)),
    },
    Contestant {
        name: "HPA",
        interval: HorizontalPodAutoscaler::INTERVAL,
        make: |_, _| Box::new(HorizontalPodAutoscaler::new(0.7)),
    },
    Contestant { name: "Ray", interval: Duration::from_secs(1), make: |_, _| Box::new(RayServe::new(1.0)) },
    Contestant {
        name: "concurrency",
        interval: Duration::from_secs(2),
        make: |_, _| Box::new(Concurrency::default()),
    },
    Contestant {
        name: "wait",
        interval: Duration::from_secs(1),
        make: |workload, start| Box::new(Wait::new(told(workload, start))),
    },
    Contestant {
        name: "wait, told nothing",
        interval: Duration::from_secs(1),
        make: |_, _| Box::new(Wait::default()),
    },
    Contestant {
        name: "wait, keep_max = 0",
        interval: Duration::from_secs(1),
        make: |workload, start| {
            Box::new(Wait::new(WaitSettings { keep_max: Duration::ZERO, ..told(workload, start) }))
        },
    },
];

const WAIT: usize = 4;
const CONCURRENCY: usize = 3;

/// What a service knows of itself that did not begin with this workload.
fn told(workload: &Workload, start_time: Duration) -> WaitSettings {
    let mean = workload.work() / workload.jobs().len() as f64;
    WaitSettings { service_time: Duration::from_secs_f64(mean), start_time, ..WaitSettings::default() }
}

/// A workload, or the same with several seeds, whose reports are joined.
struct Field {
    name: String,
    workloads: Vec<Workload>,
}

struct Row {
    name: String,
    cold_start: f64,
    bound: f64,
    reports: Vec<Report>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut only: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let traces = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../traces"));
    let mut fields = synthetic();
    fields.extend(recorded(&traces)?);
    only.retain(|name| fields.iter().any(|field| field.name == *name));
    let fields: Vec<Field> =
        fields.into_iter().filter(|field| only.is_empty() || only.contains(&field.name)).collect();
    let rows: Vec<Row> = fields.iter().flat_map(|field| COLD_STARTS.map(|start| row(field, start))).collect();
    let mut out = std::io::stdout().lock();
    table(&mut out, &rows)?;
    verdict(&mut out, &rows)?;
    Ok(())
}

fn synthetic() -> Vec<Field> {
    let usual = Services::Lognormal { mean: 0.5, cv: 0.5 };
    let heavy = Services::Lognormal { mean: 0.5, cv: 3.0 };
    let pareto = Services::Pareto { mean: 0.5, alpha: 1.5 };
    [
        ("steady", Shape::Steady, 5.0, usual, HOUR),
        ("burst", Shape::Burst, 3.0, usual, HOUR),
        ("ramp", Shape::Ramp, 7.75, usual, HOUR),
        ("onoff", Shape::OnOff, 5.0, usual, HOUR),
        ("daily", Shape::Daily, 5.0, usual, HOUR),
        ("day24", Shape::Daily, 2.0, usual, 24 * HOUR),
        ("heavy", Shape::Steady, 5.0, heavy, HOUR),
        ("pareto", Shape::Steady, 5.0, pareto, HOUR),
        ("sparse", Shape::Steady, 0.02, usual, 4 * HOUR),
        ("step", Shape::Step, 8.0, usual, HOUR),
    ]
    .map(|(name, shape, rate, services, span)| {
        let span = Duration::from_secs(span);
        let make = |seed| Synthetic { shape, rate, services, span, seed }.make();
        Field { name: name.to_owned(), workloads: SEEDS.map(make).into() }
    })
    .into()
}

fn recorded(folder: &Path) -> Result<Vec<Field>, Box<dyn Error>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|it| it == "csv"));
    files.sort();
    let field = |file: PathBuf| -> Result<Field, Box<dyn Error>> {
        let workload = Workload::parse(&std::fs::read_to_string(&file)?)?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Field { name, workloads: vec![workload] })
    };
    files.into_iter().map(field).collect()
}

fn row(field: &Field, cold_start: f64) -> Row {
    let start = Duration::from_secs_f64(cold_start);
    let bounds = field.workloads.iter().map(|workload| bound(workload, OBJECTIVE, start));
    let run = |contestant: &Contestant| {
        let mut sum = Report::default();
        for workload in &field.workloads {
            sum.join(&simulation(contestant, start).run((contestant.make)(workload, start), workload));
        }
        sum
    };
    Row {
        name: field.name.clone(),
        cold_start,
        bound: bounds.sum(),
        reports: CONTESTANTS.iter().map(run).collect(),
    }
}

/// As each rule is published: it damps for itself.
fn simulation(contestant: &Contestant, cold_start: Duration) -> Simulation {
    let usual = Simulation::default();
    let config = PoolConfig {
        scale_interval: contestant.interval,
        down_delay: Duration::ZERO,
        max: 2_000,
        ..usual.config
    };
    Simulation { config, cold_start, objective: OBJECTIVE, ..usual }
}

fn table(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    write!(out, "| workload | start s | bound |")?;
    CONTESTANTS.iter().try_for_each(|it| write!(out, " {} |", it.name))?;
    writeln!(out, " late | wait ÷ concurrency |")?;
    writeln!(out, "| --- | --- | --- |{} --- | --- |", " --- |".repeat(CONTESTANTS.len()))?;
    for row in rows {
        write!(out, "| {} | {} | {:.0} |", row.name, row.cold_start, row.bound)?;
        for (index, report) in row.reports.iter().enumerate() {
            let mark = if index == WAIT { "**" } else { "" };
            write!(out, " {mark}{}{mark} |", cell(report, row.bound))?;
        }
        let wait = &row.reports[WAIT];
        let late = 100.0 * wait.late as f64 / wait.requests as f64;
        let ratio = wait.instance_seconds / row.reports[CONCURRENCY].instance_seconds;
        writeln!(out, " {late:.1} % | {ratio:.2} |")?;
    }
    Ok(())
}

fn cell(report: &Report, bound: f64) -> String {
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|part| report.wait(part));
    let cost = report.instance_seconds / bound;
    format!("{p50:.2}/{p95:.2}/{p99:.1} ×{cost:.2} s{}", report.starts)
}

/// Whether another one is as good in both and better in one.
fn dominated(rows: &Row, index: usize) -> Option<&'static str> {
    let (own, cost) = (rows.reports[index].wait(0.95), rows.reports[index].instance_seconds);
    let better = |other: &Report| {
        let (p95, price) = (other.wait(0.95), other.instance_seconds);
        p95 <= own && price <= cost && (p95 < own || price < cost)
    };
    let others = rows.reports.iter().zip(&CONTESTANTS).take(WAIT + 1).enumerate();
    others.filter(|(it, (report, _))| *it != index && better(report)).map(|(_, (_, it))| it.name).next()
}

fn verdict(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    let objective = OBJECTIVE.as_secs_f64();
    let named = |row: &&Row| format!("{} at {} s", row.name, row.cold_start);
    let all = rows.len();
    let beaten: Vec<String> =
        rows.iter().filter_map(|row| Some(format!("{} ({})", named(&row), dominated(row, WAIT)?))).collect();
    let dearer: Vec<String> = rows
        .iter()
        .filter(|row| row.reports[WAIT].instance_seconds > row.reports[CONCURRENCY].instance_seconds)
        .map(|row| named(&row))
        .collect();
    let met = |row: &Row, index: usize| row.reports[index].wait(0.95) <= objective;
    let missed: Vec<String> = rows
        .iter()
        .filter(|row| !met(row, WAIT) && (0..WAIT).any(|index| met(row, index)))
        .map(|row| named(&row))
        .collect();
    let within = rows.iter().filter(|row| met(row, WAIT)).count();
    let any = rows.iter().filter(|row| (0..=WAIT).any(|index| met(row, index))).count();
    writeln!(
        out,
        "\n- `wait` is on the Pareto front (p95, cost) in {} of {all} rows{}.",
        all - beaten.len(),
        list(&beaten)
    )?;
    writeln!(
        out,
        "- It costs no more than `concurrency` in {} of {all} rows{}.",
        all - dearer.len(),
        list(&dearer)
    )?;
    writeln!(
        out,
        "- Its p95 is within the objective in {within} of {all} rows, that of any policy in {any}{}.",
        list(&missed)
    )
}

fn list(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (not: {})", names.join(", ")) }
}
