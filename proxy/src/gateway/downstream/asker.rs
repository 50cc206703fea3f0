//! Who asks: how it has spelled its request, and where it is told something before the answer.

use http::{HeaderMap, StatusCode};

use super::encode;
use super::socket::Shared;
use crate::gateway::spelling::Spelling;

/// Somebody who asks; by default nobody who could be told anything.
#[derive(Clone, Default)]
pub struct Asker {
    spelling: Spelling,
    takes_lines: bool,
    socket: Option<Shared>,
}

impl Asker {
    /// A client that is told what comes before its answer, if it `understands` that.
    pub(super) fn new(spelling: Spelling, socket: &Shared, understands: bool) -> Self {
        Self { spelling, takes_lines: true, socket: understands.then(|| socket.clone()) }
    }

    /// How it has spelled its request.
    pub const fn spelling(&self) -> &Spelling {
        &self.spelling
    }

    /// Whether it can be sent the lines of an answer's head as they came.
    pub const fn takes_lines(&self) -> bool {
        self.takes_lines
    }

    /// Tells it something before the answer.
    pub fn say(&self, status: StatusCode, fields: &HeaderMap, spelling: &Spelling) {
        if let Some(socket) = &self.socket {
            socket.with(|socket| socket.say(&encode::interim(status, fields, spelling)));
        }
    }
}
