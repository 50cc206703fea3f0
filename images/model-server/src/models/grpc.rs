//! gRPC, as much of it as a test of proxies needs: messages are any bytes, framed as the protocol has it (a byte that is
//! 0, four of length), and every answer ends with its status in the trailers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::HeaderMap;
use hyper::body::{Body, Frame};
use hyper::header::HeaderValue;
use tokio::time::sleep;

use super::{Input, Reply, body_json};
use crate::body::Content;

/// Content of this type is gRPC's.
pub(crate) const CONTENT_TYPE: &str = "application/grpc";

/// Messages that `Count` answers with.
const COUNT: u8 = 10;

/// Between two of them.
const INTERVAL: Duration = Duration::from_millis(20);

/// What every model answers to a call whose messages have all arrived: `Sum` and `Count`.
pub(crate) fn answer(input: &Input) -> Option<Reply> {
    match input.head.uri.path() {
        "/longshore.Echo/Sum" => {
            let message = body_json(&input.body).to_string();
            Some(reply(http_body_util::Full::new(framed(message.as_bytes())).map_err(|never| match never {})))
        }
        "/longshore.Echo/Count" => Some(reply(counting())),
        path if path.starts_with("/longshore.Echo/") => Some(failed(12, "there is no such method")),
        _ => None,
    }
}

/// A body of messages, with the status "ok" after it.
pub(crate) fn reply(messages: impl Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Reply {
    let content: Content = Ended { messages: messages.boxed_unsync(), over: false }.boxed_unsync();
    Reply::stream(CONTENT_TYPE, content)
}

/// No message and this status, all of it in the header section.
fn failed(status: u8, message: &'static str) -> Reply {
    let mut reply = Reply::stream(CONTENT_TYPE, crate::body::full(""));
    reply.headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    reply.headers.insert("grpc-message", HeaderValue::from_static(message));
    reply
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

fn counting() -> impl Body<Data = Bytes, Error = io::Error> + Send {
    StreamBody::new(futures_util::stream::unfold(0, |next| async move {
        if next == COUNT {
            return None;
        }
        sleep(INTERVAL).await;
        Some((Ok(Frame::data(framed(&[b'0' + next]))), next + 1))
    }))
}

/// Messages, then the status.
struct Ended {
    messages: Content,
    over: bool,
}

impl Body for Ended {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.messages).poll_frame(context));
        match frame {
            Some(Ok(frame)) if frame.is_data() => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            // Fields after a client's messages mean nothing in gRPC.
            Some(Ok(_)) | None => {
                self.over = true;
                let fields = [("grpc-status", "0"), ("grpc-message", "")];
                let fields = fields.map(|(name, value)| {
                    (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value))
                });
                Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter(fields)))))
            }
        }
    }
}
