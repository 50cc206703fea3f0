//! The instances on which two processes have requests at once: what this one uses is told, what the other one uses is
//! kept free for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use longshore_pool::{Event, StateView};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::link::Link;
use super::{Message, Using};
use crate::control::Control;

/// Time between two looks at what is used.
const LOOK: Duration = Duration::from_millis(20);

/// What this process uses. While requests wait here, it is all that an instance takes: they came first. (`first`: whether
/// that is so, as it is in the process that goes.)
pub(super) fn used(controls: &[Arc<Control>], first: bool) -> Vec<Using> {
    let mut all = Vec::new();
    for control in controls {
        let service = control.service();
        let snapshot = service.dispatcher.snapshot();
        let most = service.config.concurrency;
        for view in &snapshot.instances {
            let serves = match view.state {
                StateView::Ready | StateView::Suspect | StateView::Draining => true,
                StateView::Standby
                | StateView::Resuming
                | StateView::Starting
                | StateView::Stopping
                | StateView::BackingOff
                | StateView::Exited => false,
            };
            let Some(address) = view.address.filter(|_| serves) else { continue };
            let waits = first && snapshot.waiting > 0;
            let slots = if waits { view.in_flight.max(most) } else { view.in_flight };
            let service = service.name.to_string();
            let (slot, incarnation) = (view.instance.slot, view.instance.incarnation);
            all.push(Using { service, address, slot, incarnation, slots });
        }
    }
    all.sort_unstable();
    all
}

/// The other process uses this: it is kept free for it.
pub(super) fn keep_free(controls: &[Arc<Control>], using: &[Using]) {
    for control in controls {
        let service = control.service();
        for view in service.dispatcher.snapshot().instances {
            let slots = using
                .iter()
                .find(|one| one.service == *service.name && Some(one.address) == view.address)
                .map_or(0, |one| one.slots);
            service.dispatcher.tell(Event::InstanceTaken { instance: view.instance, slots });
        }
    }
}

/// Tells the other process what is used here, and keeps free what it uses, until it is gone. `hurry` is told by the process
/// that comes, and rings in the one that goes.
pub(super) async fn go_on(
    mut link: Link,
    controls: impl Fn() -> Vec<Arc<Control>>,
    first: bool,
    hurry: &Notify,
) {
    let mut told: Option<Vec<Using>> = None;
    let mut theirs: Vec<Using> = Vec::new();
    let mut known = BTreeSet::new();
    loop {
        let all = controls();
        let mine = used(&all, first);
        let addresses: BTreeSet<_> = mine.iter().map(|one| one.address).collect();
        if addresses != known {
            // An instance that has just become reachable may be theirs, too.
            keep_free(&all, &theirs);
            known = addresses;
        }
        if told.as_ref() != Some(&mine) {
            if link.send(&Message::Using(mine.clone())).await.is_err() {
                break;
            }
            told = Some(mine);
        }
        let until = Instant::now() + LOOK;
        let said = tokio::select! {
            said = timeout_at(until, link.next()) => said,
            () = hurry.notified(), if !first => {
                if link.send(&Message::Hurry).await.is_err() {
                    break;
                }
                continue;
            }
        };
        match said {
            Ok(Ok(Message::Hurry)) => hurry.notify_one(),
            Ok(Ok(Message::Using(using))) => {
                if first {
                    all.iter().for_each(|control| control.learn(&instances(&using, control)));
                }
                keep_free(&all, &using);
                theirs = using;
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => break,
            Err(_) => {}
        }
    }
    keep_free(&controls(), &[]);
}

/// The instances of one service among them, by the names that their owner has for them.
fn instances(using: &[Using], control: &Control) -> Vec<(longshore_pool::InstanceId, std::net::SocketAddr)> {
    let name = control.service().name.clone();
    let ours = using.iter().filter(|one| one.service == *name);
    ours.map(|one| {
        let id = longshore_pool::InstanceId { slot: one.slot, incarnation: one.incarnation };
        (id, one.address)
    })
    .collect()
}
