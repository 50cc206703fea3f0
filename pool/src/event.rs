//! The whole contract between the pool and the world: [`Event`] in, [`Action`] out.
//!
//! The shell turns what happens (a request arrives, a container dies, a probe answers) into events, hands each to
//! [`Pool::handle_event`](crate::Pool::handle_event) with the time, and performs the actions that
//! [`Pool::poll_action`](crate::Pool::poll_action) then yields. Nothing else crosses the border.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::config::PoolConfig;
use crate::time::Time;

/// One request, named by the gateway. Never used twice in the life of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One life of one slot. A restart is a new incarnation, so late news of the old one is recognised and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// The place in the pool, from 0; taken again by the next instance once it is free.
    pub slot: u32,
    /// How many lives the pool has begun before this one, in all slots, in this process and (by adoption) earlier ones.
    pub incarnation: u32,
}

impl std::fmt::Display for InstanceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.slot, self.incarnation)
    }
}

/// The world, told to the pool. Events about an instance or a request that the pool does not know (late, doubled,
/// out of order) are ignored.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request was accepted by the gateway and wants an instance.
    RequestArrived {
        /// Its name.
        request: RequestId,
        /// The instant by which it must be answered in full; never dispatched after it.
        deadline: Time,
        /// Whether it may be sent to a second instance after a first one may have begun to work on it.
        replayable: bool,
        /// What queue and balancer tell it apart by.
        class: Class,
    },
    /// The client left while the request waited. (While it is in flight, the gateway reports `Abandoned` instead.)
    RequestCancelled {
        /// Its name.
        request: RequestId,
    },
    /// The answer has begun and has no known end (a stream, an upgraded connection): its deadline is met, and it holds its
    /// slot for as long as it likes, unless its instance drains.
    RequestStreams {
        /// Its name.
        request: RequestId,
    },
    /// An attempt ended. Only the gateway knows whether a byte of the answer has left, so only this ends an attempt.
    RequestFinished {
        /// Its name.
        request: RequestId,
        /// How the attempt ended.
        outcome: Outcome,
    },
    /// At boot, before anything else: the backend already runs this instance, of the current specification.
    InstanceFound {
        /// Its name, read from its labels.
        instance: InstanceId,
        /// Where it listens.
        address: SocketAddr,
        /// Whether its processes are paused: where there is to be a standby, it is taken for part of it.
        paused: bool,
    },
    /// The backend started the instance; it is not known to be ready yet.
    InstanceStarted {
        /// Its name.
        instance: InstanceId,
        /// Where it listens.
        address: SocketAddr,
    },
    /// A probe that the pool asked for ended.
    InstanceProbed {
        /// Its name.
        instance: InstanceId,
        /// What the probe saw.
        health: Health,
    },
    /// What is known of an instance that ought to be ready by now, as the pool asked.
    InstanceExamined {
        /// Its name.
        instance: InstanceId,
        /// What the last probe saw, in words; or what goes on, if none has ended.
        saw: Option<Arc<str>>,
        /// The last lines it logged.
        log: Arc<str>,
    },
    /// The backend paused the instance, or could not: then it goes on running, and is in standby all the same.
    InstancePaused {
        /// Its name.
        instance: InstanceId,
        /// Whether it is paused.
        done: bool,
    },
    /// The backend let the instance go on, or could not.
    InstanceResumed {
        /// Its name.
        instance: InstanceId,
        /// Why it could not.
        failed: Option<DeathCause>,
    },
    /// The instance runs no more, or could not be started, or was stopped as asked.
    InstanceExited {
        /// Its name.
        instance: InstanceId,
        /// Why.
        cause: DeathCause,
    },
    /// An operator asks for this size (clamped to the configured bounds).
    SizeSet {
        /// How many instances there should be.
        size: u32,
    },
    /// An operator asks for this instance to be drained and replaced.
    InstanceReplace {
        /// Its name.
        instance: InstanceId,
    },
    /// Another process, which this one has taken over from, still has so many requests on the instance. They count as its
    /// own would: towards its slots, for its silence, while it drains.
    InstanceTaken {
        /// Its name.
        instance: InstanceId,
        /// Requests of the other process; 0 when it has done.
        slots: u32,
    },
    /// So many requests wait elsewhere, for their turn to arrive: whoever decides about the size counts them, too.
    Backlog {
        /// How many, those that have arrived not counted.
        requests: usize,
    },
    /// All instances are to be replaced one by one, losing nothing.
    Restart,
    /// The configuration changed; `roll` when what runs must be replaced one by one to obey it.
    ConfigChanged {
        /// The new configuration.
        config: Arc<PoolConfig>,
        /// Whether running instances are outdated by it.
        roll: bool,
    },
    /// The process is about to end: new requests are refused, waiting and running ones go on.
    Drain,
    /// The process ends: waiting and running ones are refused, too.
    Cut,
}

/// What queue and balancer may tell requests apart by. Keys are hashes of what the client sent, so that a waiting request
/// keeps no text; whoever makes them sees to it that clients cannot choose flows that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Whose it is: each flow gets the same share of a queue whose order is `fair`.
    pub flow: u64,
    /// From 0 to 9 (more counts as 9): the higher, the earlier in a queue by priority.
    pub priority: u8,
    /// Requests of one key go to one instance where the balancer is `hash`; without a key anywhere.
    pub affinity: Option<NonZeroU64>,
}

impl Class {
    /// The priority of a request that names none.
    pub const PRIORITY: u8 = 5;
}

impl Default for Class {
    fn default() -> Self {
        Self { flow: 0, priority: Self::PRIORITY, affinity: None }
    }
}

/// How one attempt at a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete answer, or one that is being streamed to its end, came from the instance.
    Answered,
    /// The attempt failed and no byte of an answer has left for the client.
    Lost {
        /// What happened, in words for the operator and the client ("connection reset", "refused", …).
        how: Arc<str>,
        /// Whether the instance may have seen any of the request.
        sent: bool,
    },
    /// The answer broke off after bytes of it had left, and can go on with an instance that gives the same again: back to
    /// the head, as after a loss.
    Interrupted {
        /// What happened, in words.
        how: Arc<str>,
        /// The request's deadline from now on: the old one was for the first byte, and may have passed.
        deadline: Time,
    },
    /// The instance answered that it is busy; it gets no new request for so long.
    Busy {
        /// The instance's own `Retry-After`, or the gateway's default.
        retry_after: Duration,
    },
    /// Over for good with no full answer: the client left, its deadline passed, or the stream broke after its first byte.
    Abandoned {
        /// Whether the instance is to blame (its stream broke), so that it is probed before it gets more.
        broken: bool,
    },
}

/// What a probe saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answered as configured.
    Ready,
    /// It answered something else, or refused the connection.
    NotReady,
    /// It took the connection and said nothing in time. A server that does one thing at a time looks so at work.
    Silent,
    /// The backend says that its processes are frozen (paused, stopped): hung beyond doubt, unless it is for a moment.
    Frozen,
}

/// Why an instance is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeathCause {
    /// Its main process exited by itself.
    Exited {
        /// The exit code.
        code: i64,
        /// The last lines it logged.
        log: Arc<str>,
    },
    /// The kernel killed it for want of memory.
    OutOfMemory {
        /// The last lines it logged.
        log: Arc<str>,
    },
    /// A signal killed it.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The backend does not know it any more.
    Vanished,
    /// Its main process is gone. Why is told by a second [`Event::InstanceExited`].
    Unexplained,
    /// It could not be started.
    StartFailed {
        /// What the backend said.
        error: Arc<str>,
        /// What follows from it.
        retry: Retry,
    },
    /// It was not ready within the start timeout. (Made by the pool.)
    StartTimeout {
        /// That timeout.
        after: Duration,
        /// What the last probe saw, in words.
        saw: Arc<str>,
        /// The last lines it logged.
        log: Arc<str>,
    },
    /// It failed its liveness probes. (Made by the pool.)
    Hung,
    /// Longshore stopped it.
    Stopped,
}

/// What a failed start says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// May well succeed next time (a crash, a port taken): after some in a row the service cannot start.
    Later,
    /// Cannot succeed until a person acts (image missing, refused by the engine): the service cannot start.
    Futile,
    /// Says nothing about the service (the engine does not answer): waiting requests go on waiting.
    EngineDown,
}

/// The pool, asking the world.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Send the request to the instance. Answered by `RequestFinished`.
    Dispatch {
        /// The request.
        request: RequestId,
        /// The instance, which is ready and has a free slot.
        instance: InstanceId,
        /// Where the instance listens.
        address: SocketAddr,
        /// Which attempt this is, from 1.
        attempt: u32,
    },
    /// Tell the client that its request will not be served.
    Reject {
        /// The request, which the pool has forgotten.
        request: RequestId,
        /// Why.
        reason: RejectReason,
    },
    /// The instance that holds the request is dead or hung, or may not be kept any longer, or the process ends: end the
    /// attempt. Answered by `RequestFinished`.
    Revoke {
        /// The request.
        request: RequestId,
        /// The instance.
        instance: InstanceId,
        /// Why it does not go on there.
        why: Revoked,
    },
    /// Start an instance. Answered by `InstanceStarted` or `InstanceExited`.
    Start {
        /// Its name.
        instance: InstanceId,
    },
    /// Ask the instance for a sign of life. Answered by `InstanceProbed`.
    Probe {
        /// Its name.
        instance: InstanceId,
        /// Where it listens.
        address: SocketAddr,
    },
    /// The instance ought to be ready by now: say what is known of it. Answered by `InstanceExamined`, before it is given up.
    Examine {
        /// Its name.
        instance: InstanceId,
    },
    /// Pause the instance, which holds no request: its processes keep their memory and get no time. Answered by
    /// `InstancePaused`, or not at all.
    Pause {
        /// Its name.
        instance: InstanceId,
    },
    /// Let an instance go on that was to be paused, after that call has ended. Answered by `InstanceResumed`.
    Resume {
        /// Its name.
        instance: InstanceId,
    },
    /// Stop the instance and remove what is left of it. Answered by `InstanceExited`.
    Stop {
        /// Its name.
        instance: InstanceId,
        /// How long it may take to end by itself; zero kills at once.
        grace: Duration,
    },
}

/// Why a request is taken from the instance that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The instance is dead or hung.
    Lost,
    /// It is well, was to go, and has waited for the request for as long as it may.
    Drained,
    /// The process ends.
    Cut,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// Too many wait already.
    QueueFull {
        /// When a slot in the queue is likely, from the rate at which it drains.
        retry_after: Duration,
    },
    /// It waited for a slot as long as the service allows.
    QueueTimeout,
    /// Its own deadline passed before it was dispatched.
    DeadlinePassed,
    /// It outlived as many instances as allowed, or may not be sent to a second one.
    AttemptsExhausted {
        /// Each instance that it was lost on, and how.
        attempts: Vec<(InstanceId, Arc<str>)>,
    },
    /// No instance can be started.
    CannotStart {
        /// Why the last one could not.
        cause: DeathCause,
        /// When the next start will be tried.
        retry_after: Duration,
    },
    /// The size is 0 and nothing will raise it; or the restart policy has stopped the service when an instance ended, or
    /// starts none again of those that have.
    Stopped {
        /// How that instance ended.
        cause: Option<DeathCause>,
    },
    /// The proxy is ending.
    ShuttingDown,
}
