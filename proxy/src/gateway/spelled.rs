//! A connection to an instance on which hyper speaks: it writes and reads the names of fields in lower case, so what it
//! writes is spelled anew on its way, and what it reads is noted before.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::spelling::Spelling;

/// The longest head that is noted, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Interim answers whose heads are noted, at the most.
const MAX_INTERIM: usize = 100;

/// Fields of a head that is spelled anew, at the most.
const MAX_FIELDS: usize = 256;

/// What is known of the heads that go over a connection.
#[derive(Clone, Debug, Default)]
pub struct Heads(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// How the next request is spelled that is written.
    request: Option<Spelling>,
    /// Heads that came before that of the answer.
    interim: VecDeque<Bytes>,
    answer: Answer,
}

/// The head of an answer.
#[derive(Debug, Default)]
enum Answer {
    /// None is waited for.
    #[default]
    None,
    /// So much of it has come.
    Coming(Vec<u8>),
    /// It is here.
    Here(Bytes),
}

impl Heads {
    /// A request is about to be written that was spelled so; its answer is noted.
    pub fn expect(&self, request: &Spelling) {
        let (request, interim) = (Some(request.clone()), VecDeque::new());
        *self.0.lock() = Known { request, interim, answer: Answer::Coming(Vec::new()) };
    }

    /// How the answer was spelled, once that has been read.
    pub fn answer(&self) -> Spelling {
        match std::mem::take(&mut self.0.lock().answer) {
            Answer::Here(head) => Spelling::of(head),
            Answer::None | Answer::Coming(_) => Spelling::default(),
        }
    }

    /// How the next of those before it was.
    pub fn interim(&self) -> Spelling {
        self.0.lock().interim.pop_front().map(Spelling::of).unwrap_or_default()
    }

    fn note(&self, read: &[u8]) {
        let known = &mut *self.0.lock();
        let Answer::Coming(head) = &mut known.answer else { return };
        head.extend_from_slice(read);
        while let Some(end) = end_of_head(head) {
            if is_interim(head) {
                let rest = head.split_off(end);
                known.interim.push_back(std::mem::replace(head, rest).into());
                if known.interim.len() > MAX_INTERIM {
                    // Nobody takes them: they are too many.
                    known.interim.clear();
                }
            } else {
                head.truncate(end);
                known.answer = Answer::Here(std::mem::take(head).into());
                return;
            }
        }
        if head.len() > MAX_HEAD {
            known.answer = Answer::None;
        }
    }

    /// A head that begins what is written, as it is spelled, and how long it was.
    fn respelled(&self, written: &[u8]) -> Option<(Vec<u8>, usize)> {
        let spelling = self.0.lock().request.take()?;
        let end = end_of_head(written)?;
        Some((respell(&spelling, written.get(..end)?)?, end))
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// Whether the answer is to come after this head. One that switches protocols is the answer.
fn is_interim(head: &[u8]) -> bool {
    head.get(9).is_some_and(|digit| *digit == b'1') && head.get(9..12) != Some(b"101")
}

fn respell(spelling: &Spelling, head: &[u8]) -> Option<Vec<u8>> {
    let first = memchr::memchr(b'\n', head)? + 1;
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) =
        httparse::parse_headers(head.get(first..)?, &mut fields)
    else {
        return None;
    };
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        headers.append(
            HeaderName::from_bytes(field.name.as_bytes()).ok()?,
            HeaderValue::from_bytes(field.value).ok()?,
        );
    }
    let mut out = Vec::with_capacity(head.len());
    out.extend_from_slice(head.get(..first)?);
    spelling.each(&headers, |_, spelled, value| {
        out.extend_from_slice(spelled);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// A connection whose heads are spelled as they came.
pub struct Spelled<S> {
    stream: S,
    heads: Heads,
    /// A head that is on its way.
    head: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Spelled<S> {
    /// Over this stream.
    pub const fn new(stream: S, heads: Heads) -> Self {
        Self { stream, heads, head: Vec::new() }
    }

    /// The stream, if no head is on its way.
    pub fn into_inner(self) -> Option<S> {
        self.head.is_empty().then_some(self.stream)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.head.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.head))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.head.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a head from the beginning of what is written; `None` if that is none.
    fn take_head(&mut self, cx: &mut Context<'_>, written: &[u8]) -> Option<Poll<io::Result<usize>>> {
        let (head, length) = self.heads.respelled(written)?;
        self.head = head;
        match self.poll_head(cx) {
            Poll::Ready(Err(error)) => Some(Poll::Ready(Err(error))),
            // The rest of it goes before whatever is written next.
            Poll::Ready(Ok(())) | Poll::Pending => Some(Poll::Ready(Ok(length))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Spelled<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, out));
        this.heads.note(out.filled().get(before..).unwrap_or_default());
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spelled<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_head(cx))?;
        match this.take_head(cx, bytes) {
            Some(taken) => taken,
            None => Pin::new(&mut this.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_head(cx))?;
        let first = pieces.iter().find(|piece| !piece.is_empty());
        match first.and_then(|first| this.take_head(cx, first)) {
            Some(taken) => taken,
            None => Pin::new(&mut this.stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_head(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_head(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LOWER: &str = "POST /a HTTP/1.1\r\nhost: b\r\nx-one: 1\r\ntransfer-encoding: chunked\r\n\r\n";
    const SPELLED: &str = "POST /a HTTP/1.1\r\nHost: b\r\nX-ONE: 1\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn spelling() -> Spelling {
        let came = "POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nX-ONE: 1\r\n\r\n";
        Spelling::of(Bytes::from_static(came.as_bytes()))
    }

    #[tokio::test]
    async fn a_request_is_spelled_as_it_came_however_it_is_written() {
        for (room, more) in [(1024, ""), (7, ""), (7, "3\r\nabc\r\n")] {
            let (near, mut far) = tokio::io::duplex(room);
            let heads = Heads::default();
            heads.expect(&spelling());
            let mut spelled = Spelled::new(near, heads);
            let reading = tokio::spawn(async move {
                let mut got = String::new();
                far.read_to_string(&mut got).await.unwrap();
                got
            });
            spelled.write_all(format!("{LOWER}{more}").as_bytes()).await.unwrap();
            spelled.write_all(b"0\r\n\r\nGET / HTTP/1.1\r\nhost: b\r\n\r\n").await.unwrap();
            spelled.shutdown().await.unwrap();
            let after = "0\r\n\r\nGET / HTTP/1.1\r\nhost: b\r\n\r\n";
            assert_eq!(reading.await.unwrap(), format!("{SPELLED}{more}{after}"));
        }
    }

    #[tokio::test]
    async fn the_head_of_an_answer_is_noted_and_no_other() {
        let (near, mut far) = tokio::io::duplex(1024);
        let heads = Heads::default();
        let mut spelled = Spelled::new(near, heads.clone());
        heads.expect(&Spelling::default());
        far.write_all(
            b"HTTP/1.1 103 Early\r\nLINK: a\r\n\r\nHTTP/1.1 200 OK\r\nX-Own: 1\r\n\r\nY: 2\r\n\r\n",
        )
        .await
        .unwrap();
        drop(far);
        let mut got = String::new();
        spelled.read_to_string(&mut got).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-own", HeaderValue::from_static("1"));
        headers.append("y", HeaderValue::from_static("2"));
        let mut names = Vec::new();
        heads
            .answer()
            .each(&headers, |_, spelled, _| names.push(String::from_utf8(spelled.to_vec()).unwrap()));
        assert_eq!(names, ["X-Own", "y"]);
    }
}
