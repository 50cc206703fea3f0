//! Reading what an export has written.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use base64::Engine;
use serde::{Deserialize, Serialize};

use super::{BASE64, FORMAT, Line};
use crate::body::{Body, Staged};
use crate::job::{Job, Millis};
use crate::store::{Change, Outcome, Store, StoreError};

/// A longer line is not ours: the largest holds a record, or a piece of a body.
const LONGEST_LINE: u64 = 4 << 20;

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

/// Why not all of it was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not what it should be: nothing was imported.
    #[error("line {line}: {what}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The store failed in the middle, or was full. What was imported before stays, so that the same file can be imported again.
    #[error("{why}; {}", so_far(.done))]
    Store {
        /// What the store says.
        why: StoreError,
        /// What was done before.
        done: Imported,
    },
    /// The file could not be kept meanwhile: nothing was imported.
    #[error("failed to keep the file while it is read: {0}")]
    Io(#[from] std::io::Error),
}

fn so_far(done: &Imported) -> String {
    let Imported { imported, kept } = done;
    match imported + kept {
        0 => "nothing was imported".to_owned(),
        _ => format!(
            "{imported} jobs of the file were imported before that and {kept} stayed as they were, the others were not \
             reached: import the same file again"
        ),
    }
}

/// Why the second reading of a file stopped.
enum Stop {
    Store(StoreError),
    File(ImportError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ImportError> for Stop {
    fn from(error: ImportError) -> Self {
        Self::File(error)
    }
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
        let (mut done, into) = (Imported::default(), Into { store, overwrite, owner });
        let failed = |why, done| Err(ImportError::Store { why, done });
        match into.take(Lines::new(file), &mut done).await {
            Ok(()) => Ok(done),
            Err(Stop::Store(why)) => failed(why, done),
            // It was understood a moment ago.
            Err(Stop::File(error)) => failed(StoreError::Unavailable(error.to_string()), done),
        }
    }
}

/// Where the jobs of a file go.
struct Into<'i> {
    store: &'i Arc<dyn Store>,
    overwrite: bool,
    owner: Option<&'i str>,
}

impl Into<'_> {
    async fn take(&self, mut lines: Lines, done: &mut Imported) -> Result<(), Stop> {
        let mut bodies: Vec<(String, Staged)> = Vec::new();
        let mut next = lines.next()?;
        while let Some(line) = next {
            match line {
                Line::Piece { body, data } => {
                    let (staged, after) = self.body(body, data, &mut lines).await?;
                    bodies.extend(staged);
                    next = after;
                    continue;
                }
                Line::Dropped {} => bodies.clear(),
                Line::Job(job) => match self.put(*job, std::mem::take(&mut bodies)).await? {
                    true => done.imported += 1,
                    false => done.kept += 1,
                },
                Line::Longshore { .. } | Line::End { .. } => {}
            }
            next = lines.next()?;
        }
        Ok(())
    }

    /// Writes a body from its pieces; gives the line that follows it.
    async fn body(
        &self,
        name: String,
        mut data: String,
        lines: &mut Lines,
    ) -> Result<(Option<(String, Staged)>, Option<Line>), Stop> {
        let mut writer = self.store.write()?;
        loop {
            writer.write(&lines.decoded(&data)?).await?;
            match lines.next()? {
                Some(Line::Piece { body, data: more }) if body == name => data = more,
                next => return Ok((writer.finish().await?.map(|staged| (name, staged)), next)),
            }
        }
    }

    /// Puts a job there; whether it is there now.
    async fn put(&self, job: Job, bodies: Vec<(String, Staged)>) -> Result<bool, StoreError> {
        let mut job = job.imported(Millis::now());
        if let Some(owner) = self.owner {
            job.request.key = Some(owner.to_owned());
        }
        let renamed = |body: Body| {
            let staged = bodies.iter().find(|(name, _)| *name == body.id.to_string());
            staged.map(|(_, staged)| staged.body)
        };
        job.rename_bodies(renamed);
        let from = self.store.get(job.id).await?;
        let may_go = |there: &Job| self.overwrite && self.owner.is_none_or(|owner| there.is_of(owner));
        if !from.as_ref().is_none_or(may_go) {
            return Ok(false);
        }
        let staged = bodies.into_iter().map(|(_, staged)| staged).collect();
        let change = Change { from, to: Some(job), staged, lasting: true };
        let outcome = self.store.swap(vec![change]).await?;
        // Somebody was faster, or another job has its name: it is there.
        Ok(outcome.first() == Some(&Outcome::Made))
    }
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
            Line::Dropped {} => lengths.clear(),
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
