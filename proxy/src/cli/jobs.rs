//! `longshore jobs`: asynchronous jobs of a running proxy.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use futures_util::StreamExt;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use longshore_jobs::Status;
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::client::Client;
use super::{CliError, output};
use crate::http_client::segment;
use crate::jobs::JobView;

#[derive(Debug, Args)]
pub(super) struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// Lists jobs, newest first.
    Ls(LsArgs),
    /// Shows one job.
    Show { id: String },
    /// Prints the answer to a job.
    Result(ResultArgs),
    /// Calls jobs off that wait or run.
    Cancel {
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Runs failed jobs again.
    Retry {
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Forgets jobs; those that wait or run are called off.
    Rm(RmArgs),
    /// Writes jobs with their bodies, as lines of JSON.
    Export {
        /// Only this one.
        id: Option<String>,
        /// Into a file instead of stdout.
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Makes the scheduled export now: to where `jobs.export` says.
        #[arg(long, conflicts_with_all = ["id", "output"])]
        now: bool,
    },
    /// Reads what `export` has written. A broken file changes nothing.
    Import {
        file: PathBuf,
        /// Replaces jobs that are there already.
        #[arg(long)]
        overwrite: bool,
    },
}

#[derive(Debug, Args)]
struct LsArgs {
    /// Of this service only.
    #[arg(long)]
    service: Option<String>,
    /// In this state only.
    #[arg(long, value_parser = Status::ALL.map(Status::name))]
    status: Option<String>,
    /// So many at the most.
    #[arg(short = 'n', long, default_value_t = 50)]
    limit: usize,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ResultArgs {
    id: String,
    /// Waits so long for it.
    #[arg(long, value_parser = crate::config::parse_duration)]
    wait: Option<Duration>,
}

#[derive(Debug, Args)]
struct RmArgs {
    #[arg(required_unless_present_any = ["service", "all"])]
    ids: Vec<String>,
    /// All jobs of a service.
    #[arg(long, conflicts_with_all = ["ids", "all"])]
    service: Option<String>,
    /// All jobs.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// A page of jobs.
#[derive(Deserialize)]
struct Page {
    jobs: Vec<JobView>,
    next: Option<String>,
}

/// Jobs that are asked for at once.
const AT_ONCE: usize = 1000;

pub(super) async fn jobs(args: JobsArgs, client: &Client) -> Result<(), CliError> {
    match args.command {
        JobsCommand::Ls(args) => ls(&args, client).await,
        JobsCommand::Show { id } => {
            let job: serde_json::Value = client.json(Method::GET, &path(&id, ""), None).await?;
            Ok(output::line(format!("{job:#}"))?)
        }
        JobsCommand::Result(args) => result(&args, client).await,
        JobsCommand::Cancel { ids } => each(&ids, "cancel", client).await,
        JobsCommand::Retry { ids } => each(&ids, "retry", client).await,
        JobsCommand::Rm(args) => rm(&args, client).await,
        JobsCommand::Export { now: true, .. } => export_now(client).await,
        JobsCommand::Export { id, output, now: false } => {
            export(id.as_deref(), output.as_deref(), client).await
        }
        JobsCommand::Import { file, overwrite } => import(&file, overwrite, client).await,
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("/_jobs/{}{rest}", segment(id))
}

async fn ls(args: &LsArgs, client: &Client) -> Result<(), CliError> {
    let mut jobs: Vec<JobView> = Vec::new();
    let mut after = None;
    while jobs.len() < args.limit {
        let mut path = format!("/_jobs?limit={}", (args.limit - jobs.len()).min(AT_ONCE));
        for (name, value) in [("service", &args.service), ("status", &args.status), ("after", &after)] {
            if let Some(value) = value {
                path += &format!("&{name}={}", segment(value));
            }
        }
        let page: Page = client.json(Method::GET, &path, None).await?;
        jobs.extend(page.jobs);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if args.json {
        let text =
            serde_json::to_string_pretty(&jobs).map_err(|error| CliError::Failed(error.to_string()))?;
        return Ok(output::line(text)?);
    }
    Ok(output::line(table(&jobs))?)
}

fn table(jobs: &[JobView]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["ID", "SERVICE", "STATUS", "ANSWER", "ATTEMPTS", "SUBMITTED", "REQUEST"]);
    for job in jobs {
        table.add_row([
            job.id.clone(),
            job.service.clone(),
            job.status.clone(),
            job.response_status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            job.attempts.to_string(),
            job.submitted_at.clone(),
            job.request.clone(),
        ]);
    }
    table.trim_fmt()
}

async fn result(args: &ResultArgs, client: &Client) -> Result<(), CliError> {
    let wait = args.wait.unwrap_or_default();
    let response = client.raw(&path(&args.id, &format!("/result?wait={}ms", wait.as_millis())), wait).await?;
    let status = response.status();
    let is_answer = response.headers().contains_key("longshore-job");
    if status == StatusCode::ACCEPTED && !is_answer {
        return Err(CliError::Failed(format!("job {} is not done yet: give --wait a time", args.id)));
    }
    if !is_answer {
        return Err(client.refused(response).await.into());
    }
    copy(response, &mut std::io::stdout().lock()).await?;
    if status.is_success() {
        return Ok(());
    }
    Err(CliError::Failed(format!("job {} was answered with {status}", args.id)))
}

async fn copy(response: Response<Incoming>, to: &mut impl Write) -> Result<(), CliError> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CliError::Failed(format!("the answer broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            to.write_all(&data).map_err(|error| CliError::Failed(error.to_string()))?;
        }
    }
    to.flush().map_err(|error| CliError::Failed(error.to_string()))
}

async fn each(ids: &[String], what: &str, client: &Client) -> Result<(), CliError> {
    for id in ids {
        let job: JobView = client.json(Method::POST, &path(id, &format!("/{what}")), None).await?;
        output::line(format!("{} is {}", job.id, job.status))?;
    }
    Ok(())
}

async fn rm(args: &RmArgs, client: &Client) -> Result<(), CliError> {
    if args.ids.is_empty() {
        let service = args.service.as_deref().map(|name| format!("?service={}", segment(name)));
        let path = format!("/_jobs{}", service.unwrap_or_default());
        let deleted: serde_json::Value = client.json(Method::DELETE, &path, None).await?;
        let text = format!("{} cancelled, {} forgotten", deleted["cancelled"], deleted["forgotten"]);
        return Ok(output::line(text)?);
    }
    for id in &args.ids {
        let deleted = client.open(Method::DELETE, &path(id, ""), None).await?;
        // What was called off is still known until it is deleted once more.
        if deleted.status() != StatusCode::NO_CONTENT {
            client.open(Method::DELETE, &path(id, ""), None).await?;
        }
        output::line(format!("{id} is forgotten"))?;
    }
    Ok(())
}

async fn export(id: Option<&str>, file: Option<&Path>, client: &Client) -> Result<(), CliError> {
    let path = id.map_or_else(|| "/_jobs/export".to_owned(), |id| path(id, "/export"));
    let response = client.open(Method::GET, &path, None).await?;
    match file {
        None => copy(response, &mut std::io::stdout().lock()).await,
        Some(file) => {
            let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", file.display()));
            copy(response, &mut std::fs::File::create(file).map_err(failed)?).await
        }
    }
}

async fn export_now(client: &Client) -> Result<(), CliError> {
    let exported: serde_json::Value = client.json(Method::POST, "/_jobs/export", None).await?;
    let to = exported["to"].as_str().unwrap_or_default();
    Ok(output::line(format!("{} bytes to {to}", exported["bytes"]))?)
}

async fn import(file: &Path, overwrite: bool, client: &Client) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::Failed(format!("{}: {error}", file.display()));
    let opened = tokio::fs::File::open(file).await.map_err(failed)?;
    let pieces = ReaderStream::with_capacity(opened, 256 * 1024)
        .map(|piece: std::io::Result<Bytes>| piece.map(Frame::data));
    let path = format!("/_jobs/import?overwrite={overwrite}");
    let imported: serde_json::Value = client.upload(&path, StreamBody::new(pieces.boxed())).await?;
    Ok(output::line(format!("{} imported, {} kept as they were", imported["imported"], imported["kept"]))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_line_for_each_job() {
        let job = JobView {
            id: "01a1".to_owned(),
            service: "calc".to_owned(),
            status: "failed".to_owned(),
            done: true,
            position: None,
            load: 0,
            attempts: 2,
            request: "POST /factorize".to_owned(),
            submitted_at: "2026-01-02T03:04:05.678Z".to_owned(),
            started_at: None,
            finished_at: None,
            estimate_seconds: None,
            response_status: Some(502),
            result: "/_jobs/01a1/result".to_owned(),
            callback: None,
        };
        let shown = table(&[job]);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["ID", "SERVICE", "STATUS", "ANSWER", "ATTEMPTS", "SUBMITTED", "REQUEST"]);
        let row = ["01a1", "calc", "failed", "502", "2", "2026-01-02T03:04:05.678Z", "POST", "/factorize"];
        assert_eq!(lines[1], row);
    }
}
