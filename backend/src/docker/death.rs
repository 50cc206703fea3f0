//! One death: what the engine's news of it mean, what the container's log says of it, and the container's removal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bollard::errors::Error;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;

use super::call::{LOOK, within};
use super::{Shared, stop};
use crate::cause::{End, LOG, LOG_LINES, keep_end, last_lines};
use crate::{Cause, Exit, Key};

/// News that an instance has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) key: Key,
    /// The container's id, which no later container has; none if there is no container any more.
    pub(super) id: Option<String>,
    /// The exit code, if the news had it.
    pub(super) code: Option<i64>,
    /// Whether an `oom` event came before it.
    pub(super) oom: bool,
}

/// Finds the cause, tells it, and removes what is left of the container, in a task of its own: a slow log holds up no
/// other death.
pub(super) fn report(shared: &Arc<Shared>, news: News) {
    let shared = shared.clone();
    tokio::spawn(async move {
        let stopped = shared.stopping.contains(&news.key);
        let cause = if stopped { cause_of_stopped(&news) } else { cause(&shared, &news).await };
        let started = !shared.starting.contains(&news.key);
        shared.watchers.tell(&Exit { key: news.key, cause });
        match news.id {
            Some(_) if shared.hands_off.load(Ordering::Relaxed) => {}
            Some(id) if !stopped && started => stop::discard_later(shared, id).await,
            // After the next listing.
            Some(id) => drop(shared.doomed.lock().insert(id)),
            None => {}
        }
    });
}

/// Whoever stops it knows why and is removing it, so that there may be nothing left to look at.
fn cause_of_stopped(news: &News) -> Cause {
    End::of_container(news.code.unwrap_or_default(), news.oom).cause(String::new())
}

async fn cause(shared: &Shared, news: &News) -> Cause {
    let Some(id) = &news.id else { return Cause::Vanished };
    let inspected = within(LOOK, shared.docker.inspect_container(id, None)).await;
    let state = inspected.ok().and_then(|inspected| inspected.state);
    let oom = news.oom || state.as_ref().is_some_and(|state| state.oom_killed == Some(true));
    let Some(code) = news.code.or_else(|| state?.exit_code) else { return Cause::Vanished };
    let end = End::of_container(code, oom);
    let log = if end.wants_log() { last_lines_of(shared, id).await } else { String::new() };
    end.cause(log)
}

/// The last lines that the container, by name or id, wrote; empty if they cannot be had quickly.
pub(super) async fn last_lines_of(shared: &Shared, name: &str) -> String {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&LOG_LINES.to_string()).build();
    let mut collected = Vec::new();
    let mut log = std::pin::pin!(shared.docker.logs(name, Some(options)));
    let reading = async {
        while let Some(Ok(chunk)) = log.next().await {
            keep_end(&mut collected, chunk.as_ref());
        }
        Ok::<(), Error>(())
    };
    // What has come by then is kept.
    let _ = within(LOG, reading).await;
    last_lines(&collected)
}
