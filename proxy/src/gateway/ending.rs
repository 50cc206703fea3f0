//! How a connection learns that its listener ends: in two steps, so that no client's next request meets a closed connection
//! unless nothing else is left to be done with it.
//!
//! 1. *Notice*: nobody comes any more. Over HTTP/1.1 the next answer says `Connection: close` and is the last; who asks
//!    for nothing may stay, and may still ask. Over HTTP/2 a GOAWAY says the same at once.
//! 2. *Closed*: who asks for nothing goes; what is under way is finished.

use http::{HeaderValue, Response, StatusCode, header};
use tokio::sync::watch;

/// How far a listener is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Open,
    Noticed,
    Closed,
}

/// What ends connections. Dropping it closes them.
#[derive(Debug)]
pub struct Ending(watch::Sender<Step>);

/// What a connection knows of its end.
#[derive(Clone, Debug)]
pub struct Notice(watch::Receiver<Step>);

impl Default for Ending {
    fn default() -> Self {
        Self(watch::channel(Step::Open).0)
    }
}

impl Ending {
    /// For a connection, or for whoever accepts them.
    pub fn notice(&self) -> Notice {
        // As nobody has seen anything of it yet, an end that has come already is news.
        let mut receiver = self.0.subscribe();
        if *receiver.borrow() != Step::Open {
            receiver.mark_changed();
        }
        Notice(receiver)
    }

    /// The next answer is the last one.
    pub fn give_notice(&self) {
        self.advance(Step::Noticed);
    }

    /// No other request is waited for.
    pub fn close(&self) {
        self.advance(Step::Closed);
    }

    /// Returns when there is no connection any more.
    pub async fn unwatched(&self) {
        self.0.closed().await;
    }

    /// Whether there is no connection any more.
    pub fn is_unwatched(&self) -> bool {
        self.0.receiver_count() == 0
    }

    fn advance(&self, step: Step) {
        self.0.send_if_modified(|now| {
            let further = *now < step;
            if further {
                *now = step;
            }
            further
        });
    }
}

impl Notice {
    /// Whether notice has been given: a look at one number.
    pub fn is_given(&self) -> bool {
        // Without a sender all is closed.
        !matches!(self.0.has_changed(), Ok(false))
    }

    /// Returns once notice is given.
    pub async fn given(self) {
        self.reached(Step::Noticed).await;
    }

    /// Returns once all is closed.
    pub async fn closed(self) {
        self.reached(Step::Closed).await;
    }

    async fn reached(mut self, step: Step) {
        // A sender that is gone means the same as one that says so.
        let _ = self.0.wait_for(|now| *now >= step).await;
    }
}

/// Makes an answer the last one of its HTTP/1.1 connection, unless the connection is something else from then on.
pub fn say_last<B>(response: &mut Response<B>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn notice_comes_before_the_end_and_the_end_is_notice_enough() {
        let ending = Ending::default();
        let early = ending.notice();
        assert!(!early.is_given());
        ending.give_notice();
        let late = ending.notice();
        for notice in [&early, &late] {
            assert!(notice.is_given(), "who comes late is told, too");
            assert!(notice.clone().given().now_or_never().is_some());
            assert!(notice.clone().closed().now_or_never().is_none(), "who is idle may stay");
        }
        ending.close();
        ending.give_notice();
        assert!(early.clone().closed().now_or_never().is_some(), "there is no way back");
        drop(late);
        assert!(!ending.is_unwatched());
        drop(early);
        assert!(ending.is_unwatched());
    }

    #[test]
    fn whoever_ends_connections_and_is_gone_has_ended_them() {
        let notice = Ending::default().notice();
        assert!(notice.is_given());
        assert!(notice.closed().now_or_never().is_some());
    }

    #[test]
    fn an_answer_that_hands_the_connection_over_says_nothing_of_its_end() {
        let last = |status: u16| {
            let mut response =
                Response::builder().status(status).header("connection", "upgrade").body(()).unwrap();
            say_last(&mut response);
            response.headers()["connection"].clone()
        };
        assert_eq!(last(101), "upgrade");
        assert_eq!(last(200), "close");
    }
}
