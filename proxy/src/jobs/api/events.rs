//! A job's states as server-sent events: at once, after each change, until it has ended.
//!
//! Each has an id, so that a browser that was cut off (the proxy ended, the network broke) comes back and is told what it
//! has missed; one that has seen the end is told that nothing follows (204), which is how it learns to stay away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Response, StatusCode};
use longshore_jobs::{Job, Store};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Answered, Asked};
use crate::gateway::body::ResponseBody;
use crate::gateway::stream::StreamError;
use crate::jobs::{Jobs, answer, watch};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A comment in a stream of events that is silent otherwise.
const ALIVE: Duration = Duration::from_secs(15);

/// After so many milliseconds a browser that was cut off comes back.
const BACK_AFTER: &str = "retry: 1000\n";

type Out = mpsc::Sender<Result<Bytes, StreamError>>;

impl Jobs {
    pub(super) async fn events(self: &Arc<Self>, id: &str, asked: &Asked<'_>) -> Answered {
        let (store, job) = self.job(id, asked.asker).await?;
        let seen = asked.headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
        if !job.status().is_pending() && seen == Some(job.rev) {
            let mut response = Response::new(ResponseBody::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        let (out, pieces) = mpsc::channel(4);
        let jobs = self.clone();
        tokio::spawn(async move {
            // Whoever listened has gone, or the store has: the stream ends.
            let _ = jobs.tell(&store, job, &out).await;
        });
        Ok(answer::streamed("text/event-stream", ReceiverStream::new(pieces)))
    }

    async fn tell(self: &Arc<Self>, store: &Arc<dyn Store>, mut job: Job, out: &Out) -> Option<()> {
        let mut news = store.news();
        let mut closing = self.closing();
        let (mut told, mut spoken) = (None, tokio::time::Instant::now());
        loop {
            let view = self.view(store, &job).await.ok()?;
            if told.as_ref() != Some(&view) {
                let data = serde_json::to_string(&view).ok()?;
                let retry = if told.is_none() { BACK_AFTER } else { "" };
                let event = format!("{retry}id: {}\nevent: status\ndata: {data}\n\n", job.rev);
                out.send(Ok(event.into())).await.ok()?;
                (told, spoken) = (Some(view), tokio::time::Instant::now());
            } else if spoken.elapsed() > ALIVE {
                out.send(Ok(Bytes::from_static(b": still here\n\n"))).await.ok()?;
                spoken = tokio::time::Instant::now();
            }
            if !job.status().is_pending() {
                return Some(());
            }
            tokio::select! {
                () = watch::heard(&mut news, job.id) => {}
                () = out.closed() => return None,
                // Who comes back is told by the next process.
                _ = closing.wait_for(|closing| *closing) => return None,
            }
            job = store.get(job.id).await.ok()??;
        }
    }
}
