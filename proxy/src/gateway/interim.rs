//! Answers before the answer, with a status of 1xx. `100 Continue` is for the proxy, which has sent the whole request
//! unasked, and ends here; others, `103 Early Hints` for one, are passed on to a client of HTTP/1.1. An instance that sends
//! no end of them does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{HeaderMap, Request, StatusCode};

use super::downstream::Asker;
use super::headers;
use super::plain::Why;
use super::spelled::Heads;
use super::spelling::Spelling;

/// So many before an answer, at the most.
const MOST: u32 = 64;

impl Asker {
    /// Passes one on, where it is for the client.
    pub fn tell(&self, status: StatusCode, fields: &HeaderMap, spelling: &Spelling) {
        if status != StatusCode::CONTINUE && status != StatusCode::SWITCHING_PROTOCOLS {
            let mut fields = fields.clone();
            headers::prepare_response(&mut fields, false);
            self.say(status, &fields, spelling);
        }
    }
}

/// Those that came before one answer.
#[derive(Debug, Default)]
pub struct Interims(Arc<AtomicU32>);

impl Interims {
    /// Counts what hyper takes for the answer to a request, and passes it on.
    pub fn of<B>(request: &mut Request<B>, told: &Asker, heads: &Heads) -> Self {
        let interims = Self::default();
        let (count, told, heads) = (interims.0.clone(), told.clone(), heads.clone());
        hyper::ext::on_informational(request, move |response| {
            let before = count.fetch_add(1, Ordering::Relaxed);
            if before < MOST {
                told.tell(response.status(), response.headers(), &heads.interim());
            }
        });
        interims
    }

    /// What is wrong, if there are too many.
    pub fn flood(&self) -> Option<Why> {
        flood(self.0.load(Ordering::Relaxed))
    }
}

/// What is wrong with so many, if they are too many.
pub fn flood(count: u32) -> Option<Why> {
    (count > MOST).then(|| Why::NotHttp(format!("more than {MOST} interim answers (1xx) and no other")))
}
