//! Export and import: one JSON document a line, none longer than a piece of a body needs, so that nothing is ever whole in
//! memory. A job's bodies come before its record; the last line says how many jobs there were, so that a file that was cut
//! off is known.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::body::{Body, Reader, Staged};
use crate::job::Job;
use crate::store::{Change, Filter, Outcome, Store, StoreError};

/// What is written first, and demanded: the format of what follows.
const FORMAT: u32 = 1;

/// A longer line is not ours: the largest holds a record, or a piece of a body.
const LONGEST_LINE: u64 = 4 << 20;

/// Records read at once for an export.
const PAGE: usize = 100;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// Begins a file.
    Longshore { format: u32 },
    /// A piece of the body that the next record names; pieces come in their order.
    Piece { body: String, data: String },
    /// A record.
    Job(Box<Job>),
    /// Ends a file.
    End { jobs: u64 },
}

/// Sends all jobs, or one, to `out` line by line; where there is an `owner`, only those that came with the key of this
/// name. Ends early when nobody takes them any more.
pub async fn export(
    store: Arc<dyn Store>,
    one: Option<Job>,
    owner: Option<String>,
    out: mpsc::Sender<Result<Bytes, StoreError>>,
) {
    let mut export = Export { store, owner, out, jobs: 0 };
    let done = match one {
        Some(job) => export.one(job).await,
        None => export.all().await,
    };
    if let Err(Some(error)) = done {
        // The file breaks off without its last line, which an import notices.
        let _ = export.out.send(Err(error)).await;
    }
}

struct Export {
    store: Arc<dyn Store>,
    owner: Option<String>,
    out: mpsc::Sender<Result<Bytes, StoreError>>,
    jobs: u64,
}

/// `None`: whoever took it has gone.
type Written = Result<(), Option<StoreError>>;

impl Export {
    async fn one(&mut self, job: Job) -> Written {
        self.send(&Line::Longshore { format: FORMAT }).await?;
        self.job(job).await?;
        self.send(&Line::End { jobs: self.jobs }).await
    }

    async fn all(&mut self) -> Written {
        self.send(&Line::Longshore { format: FORMAT }).await?;
        let mut filter = Filter::default();
        loop {
            let page = self.store.page(&filter, PAGE).await.map_err(Some)?;
            let Some(last) = page.last() else { break };
            filter.after = Some(last.id);
            for job in page.into_iter().filter(|job| is_of(job, self.owner.as_deref())).collect::<Vec<_>>() {
                self.job(job).await?;
            }
        }
        self.send(&Line::End { jobs: self.jobs }).await
    }

    async fn job(&mut self, job: Job) -> Written {
        for body in job.bodies() {
            let mut reader = Reader::new(self.store.clone(), body);
            loop {
                match reader.next().await {
                    Ok(Some(piece)) => {
                        let data = BASE64.encode(&piece);
                        self.send(&Line::Piece { body: body.id.to_string(), data }).await?;
                    }
                    Ok(None) => break,
                    // It may have been forgotten meanwhile, or have got another state: then it is as it is now, or not at all.
                    Err(error) => match self.store.get(job.id).await.map_err(Some)? {
                        Some(now) if now.rev == job.rev => return Err(Some(error)),
                        Some(now) => return Box::pin(self.job(now)).await,
                        None => return Ok(()),
                    },
                }
            }
        }
        self.jobs += 1;
        self.send(&Line::Job(Box::new(job))).await
    }

    async fn send(&self, line: &Line) -> Written {
        // A line holds nothing that JSON cannot.
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        self.out.send(Ok(text.into())).await.map_err(|_| None)
    }
}

/// Whether a job came with the key of this name, if it matters.
fn is_of(job: &Job, owner: Option<&str>) -> bool {
    owner.is_none_or(|owner| job.request.key.as_deref() == Some(owner))
}

/// A file being taken in: kept beside until its last line has come and every line has been understood.
pub struct Import {
    file: File,
}

/// What an import has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Jobs that are there now.
    pub imported: u64,
    /// Jobs that were there before and were left as they were.
    pub kept: u64,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not what it should be.
    #[error("line {line}: {what}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The store failed in the middle: import the same file again.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The file could not be kept meanwhile.
    #[error("failed to keep the file while it is read: {0}")]
    Io(#[from] std::io::Error),
}

impl Import {
    /// Nothing has come yet.
    pub fn new() -> Result<Self, ImportError> {
        Ok(Self { file: tempfile::tempfile()? })
    }

    /// Takes more of the file.
    pub fn write(&mut self, data: &[u8]) -> Result<(), ImportError> {
        Ok(self.file.write_all(data)?)
    }

    /// That was all of it: it is checked from the first line to the last, and then goes into the store. Jobs that are there
    /// already stay as they are, or are replaced with `overwrite`. Where there is an `owner`, they become those of the key
    /// of this name, and replace none that is somebody else's.
    pub async fn finish(
        mut self,
        store: &Arc<dyn Store>,
        overwrite: bool,
        owner: Option<&str>,
    ) -> Result<Imported, ImportError> {
        let file = tokio::task::spawn_blocking(move || {
            check(&mut self.file)?;
            self.file.seek(SeekFrom::Start(0))?;
            Ok::<File, ImportError>(self.file)
        });
        let file = file.await.map_err(std::io::Error::other)??;
        let mut lines = Lines::new(file);
        let mut done = Imported::default();
        let mut bodies: Vec<(String, Staged)> = Vec::new();
        let mut next = lines.next()?;
        while let Some(line) = next {
            match line {
                Line::Piece { .. } => {
                    let (staged, after) = take_body(line, &mut lines, store).await?;
                    bodies.extend(staged);
                    next = after;
                    continue;
                }
                Line::Job(job) => {
                    let staged = std::mem::take(&mut bodies);
                    if put(*job, staged, store, overwrite, owner).await? {
                        done.imported += 1
                    } else {
                        done.kept += 1
                    }
                }
                Line::Longshore { .. } | Line::End { .. } => {}
            }
            next = lines.next()?;
        }
        Ok(done)
    }
}

/// Writes a body from its pieces; gives the line that follows it.
async fn take_body(
    first: Line,
    lines: &mut Lines,
    store: &Arc<dyn Store>,
) -> Result<(Option<(String, Staged)>, Option<Line>), ImportError> {
    let Line::Piece { body: name, data } = first else { return Ok((None, Some(first))) };
    let mut writer = store.write()?;
    let mut data = data;
    loop {
        writer.write(&lines.decoded(&data)?).await?;
        match lines.next()? {
            Some(Line::Piece { body, data: more }) if body == name => data = more,
            next => return Ok((writer.finish().await?.map(|staged| (name, staged)), next)),
        }
    }
}

/// Puts a job there; whether it is there now.
async fn put(
    job: Job,
    bodies: Vec<(String, Staged)>,
    store: &Arc<dyn Store>,
    overwrite: bool,
    owner: Option<&str>,
) -> Result<bool, ImportError> {
    let mut job = job.imported();
    if let Some(owner) = owner {
        job.request.key = Some(owner.to_owned());
    }
    let renamed = |body: Body| {
        let staged = bodies.iter().find(|(name, _)| *name == body.id.to_string());
        staged.map(|(_, staged)| staged.body)
    };
    job.rename_bodies(renamed);
    let from = store.get(job.id).await?;
    if from.as_ref().is_some_and(|there| !overwrite || !is_of(there, owner)) {
        return Ok(false);
    }
    let staged = bodies.into_iter().map(|(_, staged)| staged).collect();
    let change = Change { from, to: Some(job), staged, lasting: true };
    let outcome = store.swap(vec![change]).await?;
    // Somebody was faster, or another job has its name: it is there.
    Ok(outcome.first() == Some(&Outcome::Made))
}

/// Whether every line is what it should be.
fn check(file: &mut File) -> Result<(), ImportError> {
    file.seek(SeekFrom::Start(0))?;
    let mut lines = Lines::new(file.try_clone()?);
    match lines.next()? {
        Some(Line::Longshore { format: FORMAT }) => {}
        Some(Line::Longshore { format }) => {
            return Err(lines.wrong(format!("format {format} is not known here: {FORMAT} is")));
        }
        Some(_) | None => {
            return Err(lines.wrong("this is not a file of `longshore jobs export`".to_owned()));
        }
    }
    let (mut jobs, mut lengths) = (0, Vec::<(String, u64)>::new());
    while let Some(line) = lines.next()? {
        match line {
            Line::Longshore { .. } => return Err(lines.wrong("the file begins a second time".to_owned())),
            Line::Piece { body, data } => {
                let length = lines.decoded(&data)?.len() as u64;
                match lengths.last_mut() {
                    Some((name, sum)) if *name == body => *sum += length,
                    Some(_) | None => lengths.push((body, length)),
                }
            }
            Line::Job(job) => {
                jobs += 1;
                let given = std::mem::take(&mut lengths);
                let named: Vec<_> = job.bodies().map(|body| (body.id.to_string(), body.length)).collect();
                if named != given {
                    return Err(lines.wrong("the bodies before it are not the job's".to_owned()));
                }
            }
            Line::End { jobs: said } if said == jobs => {
                return match lines.next()? {
                    None => Ok(()),
                    Some(_) => Err(lines.wrong("something follows the end".to_owned())),
                };
            }
            Line::End { jobs: said } => {
                return Err(lines.wrong(format!("it says {said} jobs, and {jobs} came before it")));
            }
        }
    }
    Err(lines.wrong("the file is cut off: its last line is missing".to_owned()))
}

struct Lines {
    reader: BufReader<File>,
    line: u64,
}

impl Lines {
    fn new(file: File) -> Self {
        Self { reader: BufReader::with_capacity(1 << 20, file), line: 0 }
    }

    fn next(&mut self) -> Result<Option<Line>, ImportError> {
        let mut text = Vec::new();
        (&mut self.reader).take(LONGEST_LINE).read_until(b'\n', &mut text)?;
        self.line += 1;
        if text.is_empty() {
            return Ok(None);
        }
        if text.last() != Some(&b'\n') {
            return Err(self.wrong("the line is cut off, or too long".to_owned()));
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| self.wrong(error.to_string()))
    }

    fn decoded(&self, data: &str) -> Result<Vec<u8>, ImportError> {
        BASE64.decode(data).map_err(|error| self.wrong(format!("the data is not base64: {error}")))
    }

    const fn wrong(&self, what: String) -> ImportError {
        ImportError::Line { line: self.line, what }
    }
}
