//! What a container wrote.

use std::sync::Arc;

use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::Shared;
use super::call::{LIST, backend_error, within};
use crate::{BackendError, Key};

/// The last `tail` lines, then what comes. Ends when the container does.
pub(super) async fn stream(
    shared: &Arc<Shared>,
    key: &Key,
    tail: usize,
    follow: bool,
) -> Result<BoxStream<'static, Result<Bytes, BackendError>>, BackendError> {
    let name = shared.name(key);
    let what = format!("read the log of {name}");
    // The stream itself would tell only on its first item that there is no such container.
    within(LIST, shared.docker.inspect_container(&name, None))
        .await
        .map_err(|error| backend_error(&what, &error))?;
    let options =
        LogsOptionsBuilder::new().stdout(true).stderr(true).follow(follow).tail(&tail.to_string()).build();
    let log = shared.docker.logs(&name, Some(options));
    Ok(log
        .map(move |item| item.map(|chunk| chunk.into_bytes()).map_err(|error| backend_error(&what, &error)))
        .boxed())
}
