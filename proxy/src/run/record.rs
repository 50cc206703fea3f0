//! `longshore up --record FILE`: the workload as it comes, as a trace for `longshore simulate`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_pool::Time;
use longshore_pool::simulate::Job;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::UpError;
use crate::gateway::lease::Dispatcher;
use crate::gateway::service::Service;

/// Time between two looks at what was answered.
const INTERVAL: Duration = Duration::from_millis(500);

/// A recording under way.
pub(super) struct Recording {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// One service's part of it.
struct Track {
    // Not the service: one that is held would never be taken to be idle.
    dispatcher: Arc<Dispatcher>,
    path: PathBuf,
    file: File,
}

/// Begins to record: one service to the file itself, several to files with their names before the ending.
pub(super) fn begin(file: &Path, services: &[Arc<Service>]) -> Result<Recording, UpError> {
    let mut tracks = Vec::new();
    for service in services {
        let path = if services.len() == 1 { file.to_owned() } else { named(file, &service.name) };
        let open = || {
            let mut file = File::create(&path)?;
            file.write_all(b"arrival_s,service_s,client\n")?;
            Ok(file)
        };
        let file = open().map_err(|error| UpError::Record { path: path.clone(), error })?;
        // The first look begins the record.
        service.dispatcher.take_record();
        tracks.push(Track { dispatcher: service.dispatcher.clone(), path, file });
    }
    let (stop, stopped) = oneshot::channel();
    Ok(Recording { stop, task: tokio::spawn(go_on(tracks, stopped)) })
}

impl Recording {
    /// Writes what is left.
    pub(super) async fn end(self) {
        // A task that has ended has said why.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn go_on(mut tracks: Vec<Track>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let last = tokio::time::timeout(INTERVAL, &mut stopped).await.is_ok();
        tracks.retain_mut(|track| match track.write() {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(file = %track.path.display(), %error, "failed to record; the recording ends");
                false
            }
        });
        if last {
            return;
        }
    }
}

impl Track {
    fn write(&mut self) -> std::io::Result<()> {
        self.file.write_all(lines(&self.dispatcher.take_record()).as_bytes())
    }
}

fn lines(jobs: &[Job]) -> String {
    let mut text = String::new();
    for job in jobs {
        let (arrival, service) = (job.arrival.since(Time::ZERO).as_secs_f64(), job.service.as_secs_f64());
        // Writing to a string does not fail. Where nobody is told apart, there is one client, without a name.
        let _ = match job.client {
            0 => writeln!(text, "{arrival:.6},{service:.6},"),
            client => writeln!(text, "{arrival:.6},{service:.6},{client:016x}"),
        };
    }
    text
}

/// `trace.csv` and `calc` make `trace.calc.csv`.
fn named(file: &Path, service: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    match file.extension() {
        Some(ending) => file.with_file_name(format!("{stem}.{service}.{}", ending.to_string_lossy())),
        None => file.with_file_name(format!("{stem}.{service}")),
    }
}

#[cfg(test)]
mod tests {
    use longshore_pool::simulate::Workload;

    use super::*;

    #[test]
    fn what_is_recorded_can_be_simulated() {
        let job = |arrival: u64, service: u64, client: u64| Job {
            arrival: Time::ZERO + Duration::from_micros(arrival),
            service: Duration::from_micros(service),
            client,
        };
        // In the order of their answers; the second is nobody's in particular.
        let recorded = lines(&[job(2_500_000, 7, 0xabc), job(500_000, 1_250_000, 0)]);
        let read = Workload::parse(&format!("arrival_s,service_s,client\n{recorded}")).unwrap();
        // Clients are numbered as they are met, and keep their names.
        assert_eq!(read.jobs(), [job(0, 1_250_000, 0), job(2_000_000, 7, 1)]);
        assert_eq!(read.clients(), ["0000000000000abc"]);
    }

    #[test]
    fn several_services_have_a_file_each() {
        assert_eq!(named(Path::new("a/t.csv"), "calc"), Path::new("a/t.calc.csv"));
        assert_eq!(named(Path::new("t"), "calc"), Path::new("t.calc"));
    }
}
