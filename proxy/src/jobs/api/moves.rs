//! Export and import: all jobs with their bodies, or one, as lines of JSON.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use longshore_jobs::{Import, ImportError, Job, StoreError, export};
use tokio::sync::mpsc;

use super::{Answered, Asked};
use crate::gateway::stream::StreamError;
use crate::jobs::{Jobs, answer, exports, unavailable};
use crate::problem::Problem;

/// How much longer than what it holds a file is at the most: base64, and JSON around it.
const FILE_TO_STORE: u64 = 2;

impl Jobs {
    /// Only what the asker may see.
    pub(super) async fn export(self: &Arc<Self>, one: Option<Job>, asked: &Asked<'_>) -> Answered {
        let store = self.store().await.map_err(|error| unavailable(&error))?.clone();
        let owner = asked.asker.key().map(str::to_owned);
        let (out, mut lines) = mpsc::channel::<Result<Bytes, StoreError>>(4);
        tokio::spawn(export(store, one, owner, out));
        let pieces = futures_util::stream::poll_fn(move |cx| lines.poll_recv(cx));
        let pieces = futures_util::StreamExt::map(pieces, |piece| {
            piece.map_err(|error| StreamError::Own(error.to_string()))
        });
        Ok(answer::streamed("application/x-ndjson", pieces))
    }

    /// Makes the scheduled export now.
    pub(super) async fn export_now(self: &Arc<Self>, asked: &Asked<'_>) -> Answered {
        asked.asker.must_be_anybody("an export of all jobs")?;
        let Some(plan) = &self.config.export else {
            return Err(Problem::Invalid(
                "no export is set up: `[jobs] export = { every = …, to = … }` says where to; GET this path for the \
                 jobs themselves"
                    .to_owned(),
            ));
        };
        let store = self.store().await.map_err(|error| unavailable(&error))?;
        let failed = |error: String| Problem::JobsUnavailable(format!("the export has failed: {error}"));
        let exported = exports::now(self, store, plan).await.map_err(failed)?;
        Ok(answer::json(StatusCode::OK, &exported))
    }

    /// Whether what is deleted can be exported afterwards, if that is asked for (`export=true`).
    pub(super) fn can_export_after(&self, asked: &Asked<'_>) -> Result<(), Problem> {
        if asked.query.says("export") && self.config.export.is_none() {
            return Err(Problem::Invalid(
                "nothing was deleted: no export is set up (jobs.export)".to_owned(),
            ));
        }
        Ok(())
    }

    /// Makes the scheduled export after something was deleted, if that is asked for.
    pub(super) async fn export_after(self: &Arc<Self>, asked: &Asked<'_>) -> Result<(), Problem> {
        let Some(plan) = self.config.export.as_ref().filter(|_| asked.query.says("export")) else {
            return Ok(());
        };
        let store = self.store().await.map_err(|error| unavailable(&error))?;
        let failed =
            |error| Problem::JobsUnavailable(format!("it is deleted, but the export has failed: {error}"));
        exports::now(self, store, plan).await.map(|_| ()).map_err(failed)
    }

    /// What the holder of a key brings becomes theirs, and replaces nothing that is not.
    pub(super) async fn import<B>(self: &Arc<Self>, asked: &Asked<'_>, mut body: B) -> Answered
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send,
        B::Error: std::fmt::Display,
    {
        let overwrite = asked.query.says("overwrite");
        let store = self.store().await.map_err(|error| unavailable(&error))?;
        let (mut import, mut taken) = (Import::new().map_err(not_imported)?, 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Problem::BadRequest(format!("the file broke off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                taken += data.len() as u64;
                if taken > self.config.max_bytes.saturating_mul(FILE_TO_STORE) {
                    let limit = self.config.max_bytes;
                    return Err(Problem::BodyTooLarge(format!(
                        "the file holds more than the {limit} bytes that the store may keep (jobs.max_bytes)"
                    )));
                }
                import.write(&data).map_err(not_imported)?;
            }
        }
        let imported = import.finish(store, overwrite, asked.asker.key()).await.map_err(not_imported)?;
        self.feed.wake();
        Ok(answer::json(StatusCode::OK, &imported))
    }
}

fn not_imported(error: ImportError) -> Problem {
    match error {
        ImportError::Line { .. } => Problem::Invalid(format!("nothing was imported: {error}")),
        ImportError::Store { why: StoreError::Full(_), .. } => Problem::Storage(error.to_string()),
        ImportError::Store { ref why, .. } => {
            tracing::error!(error = %why, "the job store fails under an import");
            Problem::JobsUnavailable(error.to_string())
        }
        ImportError::Io(_) => Problem::Storage(error.to_string()),
    }
}
