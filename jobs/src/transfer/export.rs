//! Writing jobs.

use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{BASE64, FORMAT, Line};
use crate::body::{Body, Reader};
use crate::job::Job;
use crate::store::{Filter, Store, StoreError};

/// Records read at once for an export.
const PAGE: usize = 100;

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
        let mut filter = Filter { owner: self.owner.take(), ..Filter::default() };
        loop {
            let page = self.store.page(&filter, PAGE).await.map_err(Some)?;
            let Some(last) = page.last() else { break };
            filter.after = Some(last.id);
            for job in page {
                self.job(job).await?;
            }
        }
        self.send(&Line::End { jobs: self.jobs }).await
    }

    /// A job that changes while its bodies are written is written as it is then, or not at all if it is forgotten.
    async fn job(&mut self, mut job: Job) -> Written {
        loop {
            let mut begun = false;
            let Err(error) = self.bodies(&job, &mut begun).await else {
                self.jobs += 1;
                return self.send(&Line::Job(Box::new(job))).await;
            };
            let now = self.store.get(job.id).await.map_err(Some)?;
            match (error, now) {
                (None, _) => return Err(None),
                (Some(error), Some(now)) if now.rev == job.rev => return Err(Some(error)),
                (Some(_), now) => {
                    if begun {
                        self.send(&Line::Dropped {}).await?;
                    }
                    match now {
                        Some(now) => job = now,
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    async fn bodies(&self, job: &Job, begun: &mut bool) -> Written {
        for body in job.bodies() {
            let mut reader = Reader::new(self.store.clone(), body);
            while let Some(piece) = reader.next().await.map_err(Some)? {
                *begun = true;
                self.send(&piece_of(body, &piece)).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, line: &Line) -> Written {
        // A line holds nothing that JSON cannot.
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        self.out.send(Ok(text.into())).await.map_err(|_| None)
    }
}

fn piece_of(body: Body, piece: &[u8]) -> Line {
    Line::Piece { body: body.id.to_string(), data: BASE64.encode(piece) }
}
