//! Says once when each service has all the instances that it wants.

use std::sync::Arc;
use std::time::Duration;

use longshore_pool::StateView;
use tokio::task::JoinSet;

use crate::console::Console;
use crate::control::Control;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// What is being waited for. Dropping it ends that.
#[derive(Default)]
pub(super) struct Announcements(JoinSet<()>);

impl Announcements {
    /// Of these services.
    pub(super) fn begin(&mut self, controls: Vec<Arc<Control>>, console: &Console) {
        while self.0.try_join_next().is_some() {}
        if !controls.is_empty() {
            self.0.spawn(announce(controls, console.clone()));
        }
    }
}

/// Ready instances, and how many are wanted.
fn count(control: &Control) -> (usize, u32) {
    let snapshot = control.service().dispatcher.snapshot();
    let ready = snapshot.instances.iter().filter(|view| view.state == StateView::Ready).count();
    (ready, snapshot.wanted)
}

/// Whether a service lacks instances.
pub(super) fn is_short(control: &Control) -> bool {
    let (ready, wanted) = count(control);
    ready < wanted as usize
}

async fn announce(controls: Vec<Arc<Control>>, console: Console) {
    let mut waiting = controls;
    while !waiting.is_empty() {
        waiting.retain(|control| !is_announced(control, &console));
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether there is nothing more to say of a service.
fn is_announced(control: &Control, console: &Console) -> bool {
    let (service, (ready, wanted)) = (control.service(), count(control));
    if control.is_closed() {
        console.forget(&service.name);
        return true;
    }
    let complete = ready >= wanted as usize;
    if complete {
        console.ready(&service.name, &service.config, ready);
    } else {
        console.starting(&service.name, ready, wanted);
    }
    complete
}
