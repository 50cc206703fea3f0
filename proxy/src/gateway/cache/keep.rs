//! An answer that is passed on to the client who asked, and kept meanwhile for others.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use longshore_pool::Time;

use super::asked::{Id, Terms, variant};
use super::stored::Stored;
use super::told::{self, Allowed, Not};
use super::{Cache, End, Run};
use crate::clock::Clock;
use crate::gateway::body::ResponseBody;
use crate::gateway::held::HeldBody;
use crate::gateway::spelling::Spelling;
use crate::gateway::stream::StreamError;
use crate::problem::Problem;

/// Fields that are of one exchange, not of the answer.
const OF_ONE: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("server-timing")];

/// A run whose answer may be kept. Dropping it before the answer is complete tells those who wait that it is gone.
pub struct Keeping {
    cache: Arc<Cache>,
    id: Id,
    id_in_full: Id,
    is_personal: bool,
    is_head: bool,
    /// The request's fields, for those that the answer varies by.
    asked: HeaderMap,
    run: Option<(Id, Arc<Run>)>,
}

/// An answer's body on its way to the client, and a copy of what has passed.
pub struct Kept {
    inner: ResponseBody,
    /// None when it is not kept any more.
    copy: Option<Copy>,
}

struct Copy {
    keeping: Box<Keeping>,
    head: Response<()>,
    spelling: Spelling,
    allowed: Allowed,
    body: Vec<u8>,
    /// How long it will be, where that is known.
    length: Option<u64>,
    clock: Clock,
}

impl Keeping {
    pub(super) fn new(
        cache: Arc<Cache>,
        (id, id_in_full): (Id, Id),
        terms: &Terms,
        asked: HeaderMap,
        run: Option<(Id, Arc<Run>)>,
    ) -> Self {
        let (is_personal, is_head) = (terms.is_personal, terms.is_head);
        Self { cache, id, id_in_full, is_personal, is_head, asked, run }
    }

    /// There is no answer. What would be everybody's error is; otherwise the next one tries.
    pub fn failed(mut self, problem: &Problem) {
        let end = match problem {
            Problem::AttemptsExhausted(_)
            | Problem::QueueFull(..)
            | Problem::CannotStart(..)
            | Problem::Stopped(_)
            | Problem::ShuttingDown(_) => End::Failed(problem.clone()),
            Problem::BadRequest(_)
            | Problem::Unauthorized(_)
            | Problem::Forbidden(_)
            | Problem::NoService(..)
            | Problem::NotFound(_)
            | Problem::Invalid(_)
            | Problem::BodyTooLarge(_)
            | Problem::HeadersTooLarge(_)
            | Problem::RequestTimeout(_)
            | Problem::ClientLimit(..)
            | Problem::Overloaded(..)
            | Problem::QueueTimeout(_)
            | Problem::Timeout(_)
            | Problem::MethodNotAllowed(..)
            | Problem::Expectation(_)
            | Problem::Gone(_)
            | Problem::Conflict(_)
            | Problem::KeyReused(_)
            | Problem::JobsUnavailable(_)
            | Problem::JobDamaged(_)
            | Problem::Storage(_) => End::Gone,
        };
        self.end(end);
    }

    /// Passes an answer on. It is kept if it may be, as it passes.
    pub fn carry(self: Box<Self>, response: Response<ResponseBody>, clock: Clock) -> Response<ResponseBody> {
        let allowed = match self.allowed(&response) {
            Ok(allowed) => allowed,
            Err(not) => {
                self.alone(not, clock.now());
                return response;
            }
        };
        let (head, inner) = response.into_parts();
        let mut kept = Response::new(());
        *kept.status_mut() = head.status;
        kept.headers_mut().clone_from(&head.headers);
        let length = inner.size_hint().exact();
        let body =
            Vec::with_capacity(length.and_then(|length| usize::try_from(length).ok()).unwrap_or_default());
        let spelling = inner.spelling().or_else(|| head.extensions.get()).cloned().unwrap_or_default();
        let mut copy = Copy { keeping: self, head: kept, spelling, allowed, body, length, clock };
        let pieces = match &inner {
            ResponseBody::Plain(content, _) => Some(std::slice::from_ref(content)),
            ResponseBody::Held(HeldBody::Memory { pieces, .. }) => Some(pieces.as_slice()),
            ResponseBody::Held(HeldBody::File { .. })
            | ResponseBody::Trailed(..)
            | ResponseBody::Streaming(_)
            | ResponseBody::Own(_)
            | ResponseBody::Kept(_) => None,
        };
        if let Some(pieces) = pieces {
            // All of it is here.
            pieces.iter().for_each(|piece| copy.body.extend_from_slice(piece));
            copy.complete();
            return Response::from_parts(head, inner);
        }
        let kept = Kept { inner, copy: Some(copy) };
        Response::from_parts(head, ResponseBody::Kept(Box::new(kept)))
    }

    fn allowed(&self, response: &Response<ResponseBody>) -> Result<Allowed, Not> {
        if self.is_head {
            return Err(Not::This);
        }
        if response.body().size_hint().lower() > self.cache.max_entry {
            return Err(Not::Ever);
        }
        let (status, headers) = (response.status(), response.headers());
        told::allowed(status, headers, self.is_personal, self.cache.ttl, SystemTime::now())
    }

    /// The answer is for one only: those who wait ask for themselves, and if the next ones are like it, nobody waits.
    fn alone(mut self, not: Not, now: Time) {
        match not {
            Not::This => {}
            Not::Ever => {
                let until = now + self.cache.ttl;
                self.cache.inner.lock().shelf.note_for_one(self.id_in_full, until);
            }
        }
        self.end(End::Alone);
    }

    /// The answer is complete.
    fn keep(mut self, allowed: Allowed, head: Response<()>, spelling: Spelling, body: Vec<u8>, now: Time) {
        let (head, ()) = head.into_parts();
        let mut headers = head.headers;
        OF_ONE.iter().for_each(|name| drop(headers.remove(name)));
        headers.entry(header::DATE).or_insert_with(|| {
            let date = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()));
            date.unwrap_or_else(|_| HeaderValue::from_static("unknown"))
        });
        let id = match allowed.vary.is_empty() {
            true => self.id,
            false => variant(self.id, &allowed.vary, &self.asked),
        };
        let stored = Arc::new(Stored {
            status: head.status,
            headers,
            spelling,
            body: body.into(),
            id,
            vary: allowed.vary,
            age: allowed.age,
            since: now,
            until: now + allowed.fresh,
        });
        self.cache.inner.lock().shelf.keep(self.id, stored.clone());
        self.end(End::Shared(stored));
    }

    fn end(&mut self, end: End) {
        if let Some(run) = self.run.take() {
            self.cache.end(&run, end);
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.end(End::Gone);
    }
}

impl Copy {
    fn complete(self) {
        let now = self.clock.now();
        self.keeping.keep(self.allowed, self.head, self.spelling, self.body, now);
    }

    /// It has become too large, or ends in a way that is not kept.
    fn give_up(self) {
        let now = self.clock.now();
        self.keeping.alone(Not::Ever, now);
    }
}

impl Kept {
    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            self.note(frame.as_ref());
        }
        polled
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, StreamError>>) {
        let Some(mut copy) = self.copy.take() else { return };
        match frame {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) if (copy.body.len() + data.len()) as u64 <= copy.keeping.cache.max_entry => {
                    copy.body.extend_from_slice(data);
                    if copy.length == Some(copy.body.len() as u64) {
                        // Nobody asks for more than that.
                        copy.complete();
                    } else {
                        self.copy = Some(copy);
                    }
                }
                Some(_) | None => copy.give_up(),
            },
            // Those who wait try again.
            Some(Err(_)) => drop(copy),
            None => copy.complete(),
        }
    }

    /// How the head that came with it was spelled.
    pub fn spelling(&self) -> Option<&Spelling> {
        self.inner.spelling()
    }

    /// How much is to come, where the instance said so.
    pub fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
