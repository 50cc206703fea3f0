//! Answers before the answer, with a status of 1xx: they are for the proxy, which has sent the whole request unasked, and
//! end here. An instance that sends no end of them does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Request;

use super::plain::Why;

/// So many before an answer, at the most.
const MOST: u32 = 64;

/// Those that came before one answer.
#[derive(Debug, Default)]
pub struct Interims(Arc<AtomicU32>);

impl Interims {
    /// Counts what hyper takes for the answer to a request.
    pub fn of<B>(request: &mut Request<B>) -> Self {
        let interims = Self::default();
        let count = interims.0.clone();
        hyper::ext::on_informational(request, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
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
