//! What goes both ways at once: a body that is sent back while it arrives, and a connection that is taken over.

use std::io;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, TRAILER, UPGRADE};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::{Reply, grpc};
use crate::body::full;
use crate::state::Work;

/// A request whose body must not be read before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streaming {
    /// `/reflect`: the body, sent back while it arrives.
    Reflect,
    /// `/longshore.Echo/Chat`: the same over gRPC, with its status at the end.
    Chat,
    /// `/upgrade` with `Upgrade: echo`: every byte, sent back.
    Upgrade,
}

impl Streaming {
    /// Whether the request is one.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        match request.uri().path() {
            "/reflect" => Some(Self::Reflect),
            "/longshore.Echo/Chat" => Some(Self::Chat),
            "/upgrade" if request.headers().get(UPGRADE).is_some_and(|protocol| protocol == "echo") => {
                Some(Self::Upgrade)
            }
            _ => None,
        }
    }

    /// Answers; `work` is given back unless the connection was taken over with it.
    pub(crate) fn answer(self, request: Request<Incoming>, work: Option<Work>) -> (Reply, Option<Work>) {
        match self {
            Self::Reflect => (reflect(request), work),
            Self::Chat => (grpc::reply(request.into_body().map_err(io::Error::other)), work),
            Self::Upgrade => (upgrade(request, work), None),
        }
    }
}

fn reflect(request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let events = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    let content_type = if events { "text/event-stream" } else { "application/octet-stream" };
    let mut reply = Reply::stream(content_type, body.map_err(io::Error::other).boxed_unsync());
    // HTTP/1.1 only carries trailers that were announced.
    if let Some(names) = head.headers.get(TRAILER) {
        reply.headers.insert(TRAILER, names.clone());
    }
    reply
}

fn upgrade(mut request: Request<Incoming>, work: Option<Work>) -> Reply {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _work = work;
        if let Ok(connection) = upgraded.await {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(connection));
            // Ends when the client does, one way or the other.
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    });
    let headers = HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("echo")),
    ]);
    let status = StatusCode::SWITCHING_PROTOCOLS;
    Reply { status, headers, content_type: None, digest: None, content: full("") }
}
