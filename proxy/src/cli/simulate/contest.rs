//! The workload, who takes part, and the runs.

use std::path::Path;
use std::time::Duration;

use longshore_pool::simulate::{
    HorizontalPodAutoscaler, RayServe, Report, Services, Simulation, Synthetic, Workload, bound, greedy,
};
use longshore_pool::{PoolConfig, ScalingPolicy};

use super::SimulateArgs;
use super::objective::Objective;
use crate::cli::CliError;
use crate::config::{Config, Service, ServiceSize, Source, default_spec, typed_size};
use crate::policies::Policy;

/// Everything that a run needs.
pub(super) struct Contest {
    pub(super) workload: Workload,
    /// What it is, in words.
    pub(super) what: String,
    pub(super) service: Service,
    pub(super) cold_start: Duration,
    pub(super) objective: Objective,
    pub(super) contestants: Vec<Contestant>,
    /// Whether policies were named.
    pub(super) named: bool,
    unix_start: f64,
    sample: Option<Duration>,
}

/// Who takes part.
#[derive(Clone, Debug)]
pub(super) struct Contestant {
    pub(super) name: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A size that a service can have.
    Size(ServiceSize),
    /// Kubernetes' rule.
    HorizontalPodAutoscaler,
    /// Ray Serve's rule.
    RayServe,
}

/// Who took part and what came of it.
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) report: Report,
}

/// Points that a plot has.
const POINTS: u32 = 700;

impl Contest {
    pub(super) fn new(args: &SimulateArgs) -> Result<Self, CliError> {
        let service = service(args)?;
        let (workload, what) = workload(args)?;
        let mut contestants = Vec::new();
        for text in &args.policies {
            contestants.push(Contestant::parse(text, &service.size)?);
        }
        if contestants.is_empty() {
            if args.service.is_some() {
                let size = service.size.clone();
                contestants.push(Contestant { name: size.form().to_string(), kind: Kind::Size(size) });
            }
            for name in ["queue", "concurrency", "wait"] {
                contestants.push(Contestant::parse(name, &service.size)?);
            }
        }
        let sample = args.plot.as_ref().map(|_| workload.span() / POINTS);
        Ok(Self {
            workload,
            what,
            service,
            cold_start: args.cold_start,
            objective: args.objective,
            contestants,
            named: !args.policies.is_empty(),
            unix_start: args.start.as_second() as f64,
            sample,
        })
    }

    pub(super) fn run(&self) -> Vec<Outcome> {
        let run = |it: &Contestant| Outcome { name: it.name.clone(), report: self.run_one(&it.kind) };
        self.contestants.iter().map(run).collect()
    }

    pub(super) fn run_one(&self, kind: &Kind) -> Report {
        let config = kind.within(self.service.pool_config());
        let simulation = Simulation {
            config,
            cold_start: self.cold_start,
            timeout: self.service.timeout,
            objective: self.objective.wait,
            unix_start: self.unix_start,
            sample: self.sample,
            ..Simulation::default()
        };
        simulation.run(kind.make(), &self.workload)
    }

    /// The part of all slots that was at work, over the time that instances cost something; of all instances, where
    /// those have no limit.
    pub(super) fn used(&self, report: &Report) -> f64 {
        report.utilisation() / f64::from(self.service.concurrency.max(1))
    }

    /// The fewest instance-seconds with which nobody waits longer than the objective, and what a plain rule that knows
    /// the future takes; nothing where instances have no limit of requests, or, for the second, more than one.
    pub(super) fn bounds(&self) -> (Option<f64>, Option<f64>) {
        let (wait, start) = (self.objective.wait, self.cold_start);
        match self.service.concurrency {
            0 => (None, None),
            1 => (Some(bound(&self.workload, wait, start)), Some(greedy(&self.workload, wait, start))),
            slots => (Some(bound(&self.workload, wait, start) / f64::from(slots)), None),
        }
    }
}

impl Contestant {
    /// A policy has the bounds of the service's `own` size, unless it names others.
    fn parse(text: &str, own: &ServiceSize) -> Result<Self, CliError> {
        let kind = match text {
            "hpa" => Kind::HorizontalPodAutoscaler,
            "ray" => Kind::RayServe,
            _ => {
                let size = typed_size(text, own)
                    .map_err(|error| CliError::Usage(format!("--policy {text}: {error}")))?;
                if let Policy::Webhook(_) = size.policy {
                    return Err(CliError::Usage(
                        "a webhook cannot be simulated: it lives in real time".into(),
                    ));
                }
                Kind::Size(size)
            }
        };
        Ok(Self { name: text.to_owned(), kind })
    }
}

impl Kind {
    fn make(&self) -> Box<dyn ScalingPolicy> {
        match self {
            Self::Size(size) => size.make(),
            Self::HorizontalPodAutoscaler => Box::new(HorizontalPodAutoscaler::new(0.7)),
            Self::RayServe => Box::new(RayServe::new(1.0)),
        }
    }

    /// The pool's configuration for it; the others' rules damp for themselves.
    fn within(&self, config: PoolConfig) -> PoolConfig {
        let alone = |interval| PoolConfig {
            min: 0,
            max: crate::config::MAX_SIZE,
            scale_interval: interval,
            down_delay: Duration::ZERO,
            ..config.clone()
        };
        match self {
            Self::Size(size) => size.within(config),
            Self::HorizontalPodAutoscaler => alone(HorizontalPodAutoscaler::INTERVAL),
            Self::RayServe => alone(Duration::from_secs(1)),
        }
    }
}

fn service(args: &SimulateArgs) -> Result<Service, CliError> {
    let Some(name) = &args.service else {
        return Ok(Service::new("service", Source::Image { spec: default_spec("") }));
    };
    let file = args.config.as_deref().unwrap_or(Path::new("cluster.toml"));
    let config = Config::load(file)?;
    config.service(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = config.services.iter().map(|service| &*service.name).collect();
        let names = names.join(", ");
        CliError::Usage(format!("{} has no service {name:?}; it has {names}", file.display()))
    })
}

fn workload(args: &SimulateArgs) -> Result<(Workload, String), CliError> {
    if let Some(file) = &args.trace {
        let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
        let workload = Workload::parse(&text).map_err(|error| failed(&error))?;
        return Ok((workload, file.display().to_string()));
    }
    let (mean, rate) = (args.service_time.as_secs_f64(), args.rate.unwrap_or(1.0));
    let services = match args.pareto {
        Some(alpha) => Services::Pareto { mean, alpha },
        None => Services::Lognormal { mean, cv: args.cv },
    };
    let synthetic = Synthetic { shape: args.shape, rate, services, span: args.duration, seed: args.seed };
    // What does not fit in memory shall not be tried.
    if rate * args.duration.as_secs_f64() > 1e8 {
        return Err(CliError::Usage("so many requests are more than a simulation holds: 100 million".into()));
    }
    let workload = synthetic.make();
    if workload.jobs().is_empty() {
        return Err(CliError::Usage("not one request arrives: raise --rate or --duration".into()));
    }
    Ok((workload, format!("{:?} {rate}/s, seed {}", args.shape, args.seed).to_lowercase()))
}

impl Kind {
    /// The size, if it is one that a service can have.
    pub(super) fn size(&self) -> Option<ServiceSize> {
        match self {
            Self::Size(size) => Some(size.clone()),
            Self::HorizontalPodAutoscaler | Self::RayServe => None,
        }
    }
}
