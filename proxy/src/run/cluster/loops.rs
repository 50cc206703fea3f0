//! The control loops, one a service, and how each hears of the ends of its instances.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use longshore_backend::Exit;
use longshore_pool::Action;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::control::Control;

/// The control loops, those of services that are on their way out included.
#[derive(Default)]
pub(super) struct Loops(pub(super) Mutex<State>);

#[derive(Default)]
pub(super) struct State {
    running: Vec<Loop>,
    /// By the name of a service that was removed: the last incarnation that it may have used.
    pub(super) used: HashMap<Arc<str>, u32>,
}

/// One that runs.
struct Loop {
    control: Arc<Control>,
    name: Arc<str>,
    exits: mpsc::UnboundedSender<Exit>,
    task: AbortHandle,
}

/// A control loop that does not run yet, and what it will be asked.
pub(super) type Wires = (Arc<Control>, mpsc::UnboundedReceiver<Action>);

impl Loops {
    /// Runs a control loop until it is ended.
    pub(super) fn run(&self, (control, actions): Wires) {
        let (exits, receiver) = mpsc::unbounded_channel::<Exit>();
        // The first look makes the pool ask for what it wants; nobody shall read a size before.
        control.service().dispatcher.handle_timeout();
        let task = tokio::spawn(control.clone().run(actions, receiver)).abort_handle();
        let name = control.service().name.clone();
        self.0.lock().running.push(Loop { control, name, exits, task });
    }

    pub(super) fn end(&self, control: &Arc<Control>) {
        self.0.lock().running.retain(|one| {
            let ended = Arc::ptr_eq(&one.control, control);
            if ended {
                one.task.abort();
            }
            !ended
        });
    }

    pub(super) fn all(&self) -> Vec<Arc<Control>> {
        self.0.lock().running.iter().map(|one| one.control.clone()).collect()
    }

    /// Tells each loop of the ends of its instances. One that goes and one that has come in its place both hear of them:
    /// no two lives have the same incarnation.
    pub(super) fn route(self: Arc<Self>, mut exits: futures_util::stream::BoxStream<'static, Exit>) {
        tokio::spawn(async move {
            while let Some(exit) = exits.next().await {
                for one in self.0.lock().running.iter().filter(|one| one.name == exit.key.service) {
                    // A control loop that is gone needs no news.
                    let _ = one.exits.send(exit.clone());
                }
            }
        });
    }
}
