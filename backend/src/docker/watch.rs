//! Who has ended: the engine's event stream and a periodic listing, made into the same news.
//!
//! 1. While the engine answers: `die` and `destroy` events are news at once; a listing finds what no event told.
//! 2. When a ping fails or the stream ends: the stream is dropped and opened again, with growing pauses. Nothing is
//!    said about any instance meanwhile, because containers go on serving without their engine.
//! 3. When it answers again: a listing shows who has not survived.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use futures_util::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::call::{LIST, LOOK, backend_error, status, within};
use super::death::{News, report};
use super::{Shared, container, labels, pulse, stop};
use crate::{BackendError, Found, Key};

const PING_INTERVAL: Duration = Duration::from_secs(2);
const LIST_INTERVAL: Duration = Duration::from_secs(5);
/// A listing soon after the first finds what ended before the engine had opened the event stream.
const SECOND_LIST: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Inspections at once while listing.
const LOOKS: usize = 8;

/// Follows the engine for ever.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    let mut lost = false;
    loop {
        if within(LOOK, shared.docker.ping()).await.is_ok() {
            if std::mem::take(&mut lost) {
                tracing::info!("the Docker engine answers again");
            }
            pause = FIRST_PAUSE;
            let why = follow(&shared).await;
            tracing::debug!(why, "the engine's event stream is opened again");
        } else if !std::mem::replace(&mut lost, true) {
            tracing::warn!("the Docker engine does not answer; its instances are taken to go on serving");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Follows the engine until the stream ends or the engine fails to answer; says which.
async fn follow(shared: &Arc<Shared>) -> &'static str {
    let mut filters = labels::filter(&shared.cluster);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    // Without this filter, health checks flood the stream.
    filters.insert("event".to_owned(), ["die", "oom", "destroy"].map(str::to_owned).to_vec());
    let options = EventsOptionsBuilder::new().filters(&filters).build();
    let mut events = std::pin::pin!(shared.docker.events(Some(options)));
    let mut oomed = BTreeSet::new();

    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let mut lists = interval(LIST_INTERVAL);
    let mut second = std::pin::pin!(tokio::time::sleep(SECOND_LIST));
    let mut second_done = false;
    for ticks in [&mut pings, &mut lists] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let list = tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Ok(event)) => {
                    heard(shared, &mut oomed, &event);
                    false
                }
                Some(Err(_)) | None => return "the stream ended",
            },
            _ = pings.tick() => {
                if within(LOOK, shared.docker.ping()).await.is_err() {
                    return "a ping failed";
                }
                false
            }
            () = &mut second, if !second_done => {
                second_done = true;
                true
            }
            _ = lists.tick() => true,
        };
        if list && reconcile(shared).await.is_err() {
            return "a listing failed";
        }
    }
}

fn heard(shared: &Arc<Shared>, oomed: &mut BTreeSet<String>, event: &EventMessage) {
    let Some(actor) = &event.actor else { return };
    let (Some(id), Some(attributes)) = (&actor.id, &actor.attributes) else { return };
    let Some(key) = labels::key(attributes) else { return };
    match event.action.as_deref() {
        Some("oom") => drop(oomed.insert(id.clone())),
        Some("die") => {
            shared.known.lock().remove(&key);
            let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
            report(shared, News { key, id: Some(id.clone()), code, oom: oomed.remove(id) });
        }
        // After a `die` it is not known any more, and this is no news.
        Some("destroy") if shared.known.lock().remove(&key).is_some() => {
            report(shared, News { key, id: Some(id.clone()), code: None, oom: oomed.remove(id) });
        }
        // An engine that does not filter by event (podman's) sends others.
        Some(_) | None => {}
    }
}

/// What a listing says of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// It runs, or is about to.
    Alive,
    /// It has ended; its container's id.
    Ended(String),
}

/// Lists, tells who has ended unheard, and removes what is still to be removed.
async fn reconcile(shared: &Arc<Shared>) -> Result<(), BackendError> {
    // Taken before the listing: whoever becomes known while it is under way may be missing in it.
    let known: BTreeSet<Key> = shared.known.lock().keys().cloned().collect();
    let listed = summaries(shared).await?;
    let seen =
        listed.iter().filter_map(|summary| Some((labels::key(summary.labels.as_ref()?)?, state(summary))));
    for news in missed(&known, &seen.collect()) {
        // An event may have told it while the listing was under way.
        if shared.known.lock().remove(&news.key).is_some() {
            report(shared, news);
        }
    }
    if shared.hands_off.load(Ordering::Relaxed) {
        return Ok(());
    }
    let doomed = shared.doomed.lock().clone();
    doomed.into_iter().for_each(|name| stop::discard(shared.clone(), name));
    Ok(())
}

/// News about each known instance that a listing shows to have ended, or does not show.
fn missed(known: &BTreeSet<Key>, seen: &BTreeMap<Key, Seen>) -> Vec<News> {
    let news = |key: &Key, id| News { key: key.clone(), id, code: None, oom: false };
    known
        .iter()
        .filter_map(|key| match seen.get(key) {
            Some(Seen::Alive) => None,
            Some(Seen::Ended(id)) => Some(news(key, Some(id.clone()))),
            None => Some(news(key, None)),
        })
        .collect()
}

fn state(summary: &ContainerSummary) -> Seen {
    match summary.state {
        Some(
            ContainerSummaryStateEnum::EXITED
            | ContainerSummaryStateEnum::DEAD
            | ContainerSummaryStateEnum::REMOVING,
        ) => Seen::Ended(summary.id.clone().unwrap_or_default()),
        // A start under way shows as created; what an engine adds later is believed to live until an event says no.
        _ => Seen::Alive,
    }
}

async fn summaries(shared: &Shared) -> Result<Vec<ContainerSummary>, BackendError> {
    let filters: HashMap<String, Vec<String>> = labels::filter(&shared.cluster);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    within(LIST, shared.docker.list_containers(Some(options)))
        .await
        .map_err(|error| backend_error("list containers", &error))
}

/// Every container of the cluster; those that run, with their addresses, are known from now on.
pub(super) async fn list(shared: &Arc<Shared>) -> Result<Vec<Found>, BackendError> {
    let summaries = summaries(shared).await?;
    let looks = summaries.into_iter().map(|summary| look(shared, summary));
    let mut looks = futures_util::stream::iter(looks).buffer_unordered(LOOKS);
    let mut all = Vec::new();
    while let Some(found) = looks.next().await {
        all.extend(found?);
    }
    all.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(all)
}

/// What the labels tell, and the address of one that runs. One that goes meanwhile is left out.
async fn look(shared: &Arc<Shared>, summary: ContainerSummary) -> Result<Option<Found>, BackendError> {
    let Some(found) = summary.labels.as_ref().and_then(labels::found) else { return Ok(None) };
    let id = summary.id.unwrap_or_default();
    let inspected = match within(LIST, shared.docker.inspect_container(&id, None)).await {
        Ok(inspected) => inspected,
        Err(error) if status(&error) == Some(404) => return Ok(None),
        Err(error) => return Err(backend_error("inspect a container", &error)),
    };
    let begun =
        summary.created.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(at).ok()?)));
    let running = inspected.state.as_ref().is_some_and(|state| state.running == Some(true));
    if !running {
        return Ok(Some(found));
    }
    let known = shared.known.lock().insert(found.key.clone(), container::own_address(&inspected));
    if known.is_none() {
        let pid = inspected.state.as_ref().and_then(|state| state.pid);
        pulse::feel(shared, &found.key, &id, pid);
    }
    let paused = inspected.state.as_ref().is_some_and(|state| state.paused == Some(true));
    Ok(Some(Found { address: container::address(&inspected, shared.address), paused, begun, ..found }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> Key {
        Key { service: "calc".into(), slot, incarnation: 1 }
    }

    #[test]
    fn a_listing_tells_of_the_ended_and_the_vanished_only() {
        let known = [key(0), key(1), key(2)].into();
        let seen = [
            (key(0), Seen::Alive),
            (key(1), Seen::Ended("abc".to_owned())),
            // Not known: another process's, or told before.
            (key(3), Seen::Ended("def".to_owned())),
        ];
        let news = missed(&known, &seen.into());
        let told: Vec<(u32, Option<&str>)> =
            news.iter().map(|news| (news.key.slot, news.id.as_deref())).collect();
        assert_eq!(told, [(1, Some("abc")), (2, None)]);
    }

    #[test]
    fn a_container_that_is_not_yet_or_no_longer_running_is_told_apart() {
        let of = |state| {
            let id = Some("abc".to_owned());
            super::state(&ContainerSummary { id, state: Some(state), ..ContainerSummary::default() })
        };
        assert_eq!(of(ContainerSummaryStateEnum::CREATED), Seen::Alive);
        assert_eq!(of(ContainerSummaryStateEnum::PAUSED), Seen::Alive);
        assert_eq!(of(ContainerSummaryStateEnum::EXITED), Seen::Ended("abc".to_owned()));
        assert_eq!(of(ContainerSummaryStateEnum::REMOVING), Seen::Ended("abc".to_owned()));
    }
}
