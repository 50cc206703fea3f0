//! The request of a job as it is made when its turn has come, its body read from the store.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Request;
use http::request::Parts;
use http_body::Frame;
use http_body_util::StreamBody;
use longshore_jobs::{Body, Head, Job, Reader, Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::Scheme;
use crate::gateway::arrival::Absent;
use crate::gateway::body::{Elsewhere, ElsewhereBody, RequestBody};
use crate::gateway::route::LONGSHORE_SERVICE;
use crate::gateway::spool::SpoolError;

/// The request of a job.
pub(super) fn request(
    store: &Arc<dyn Store>,
    job: &Job,
    failure: &Failure,
    started: oneshot::Sender<()>,
) -> Result<Absent, String> {
    let parts = parts(&job.request, &job.service)?;
    let body = match job.input {
        None => RequestBody::Empty,
        Some(body) => {
            RequestBody::Elsewhere(Arc::new(Stored { store: store.clone(), body, failure: failure.clone() }))
        }
    };
    let peer = job.request.peer.as_deref().and_then(|peer| peer.parse().ok());
    let scheme = if job.request.tls { Scheme::Https } else { Scheme::Http };
    Ok(Absent { parts, body, peer, scheme, key: job.request.key.clone(), started })
}

fn parts(head: &Head, service: &str) -> Result<Parts, String> {
    let mut request = Request::builder().method(head.method.as_str()).uri(head.target.as_str());
    for (name, value) in head.headers.iter() {
        request = request.header(name, value);
    }
    let request = request.header(LONGSHORE_SERVICE, service).body(());
    let request = request.map_err(|error| format!("the job holds a request that is none: {error}"))?;
    Ok(request.into_parts().0)
}

/// Why the store could not give what it keeps, if it could not.
pub(super) type Failure = Arc<Mutex<Option<StoreError>>>;

/// The body of a job's request, read from the store as often as need be.
struct Stored {
    store: Arc<dyn Store>,
    body: Body,
    failure: Failure,
}

impl Elsewhere for Stored {
    fn open(&self) -> ElsewhereBody {
        let reader = Reader::new(self.store.clone(), self.body);
        let failed = self.failure.clone();
        let pieces = futures_util::stream::try_unfold(reader, move |mut reader| {
            let failed = failed.clone();
            async move {
                let piece = reader.next().await.map_err(|error| {
                    let told = SpoolError::Kept(error.to_string());
                    *failed.lock() = Some(error);
                    told
                })?;
                Ok(piece.map(|piece| (Frame::data(piece), reader)))
            }
        });
        Box::pin(Sized { body: StreamBody::new(pieces.boxed()), length: self.body.length })
    }

    fn error(&self) -> Option<SpoolError> {
        self.failure.lock().as_ref().map(|error| SpoolError::Kept(error.to_string()))
    }
}

/// A body whose length is known.
pub(super) struct Sized<B> {
    pub(super) body: B,
    pub(super) length: u64,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Sized<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let std::task::Poll::Ready(Some(Ok(frame))) = &polled {
            self.length = self.length.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.length)
    }
}
