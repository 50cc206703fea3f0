//! Looks at instances: whether they are well, by asking them or by what they write.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use longshore_pool::{Event, Health, InstanceId};

use super::Control;
use crate::config::{self, Check, Pattern};
use crate::probe::{self, Seen};

impl Control {
    /// Where readiness is told by another line of the log: what was ready stays so, what starts is looked at again.
    pub(super) fn check_logs_anew(self: &Arc<Self>, before: &config::Service, after: &config::Service) {
        if before.health.check == after.health.check || !matches!(after.health.check, Check::Log(_)) {
            return;
        }
        let starting: Vec<InstanceId> = {
            let mut instances = self.instances.lock();
            instances.values_mut().for_each(|life| life.log_matched = life.starting.is_none());
            instances.iter().filter(|(_, life)| !life.log_matched).map(|(id, _)| *id).collect()
        };
        starting.into_iter().for_each(|instance| self.watch_log(instance));
    }

    pub(super) fn probe(self: &Arc<Self>, instance: InstanceId, address: SocketAddr) {
        let control = self.clone();
        self.tasks.spawn(async move {
            let Seen { health, words } = control.look(instance, address).await;
            let outdated = health == Health::Ready && control.ready(instance);
            if !words.is_empty() {
                control.note(instance, words);
            }
            control.dispatcher.tell(Event::InstanceProbed { instance, health });
            if outdated {
                control.dispatcher.tell(Event::InstanceReplace { instance });
            }
        });
    }

    async fn look(&self, instance: InstanceId, address: SocketAddr) -> Seen {
        let service = self.service();
        let health = &service.config.health;
        if let Check::Log(pattern) = &health.check {
            let matched = self.instances.lock().get(&instance).is_some_and(|life| life.log_matched);
            if !matched {
                return Seen::not_ready(format!("no line of its log matches /{}/", pattern.as_str()));
            }
        }
        let seen = probe::http_or_tcp(
            self.dispatcher.connector(),
            (instance, address),
            &health.check,
            health.timeout,
        )
        .await;
        if self.is_given_up() {
            // It may be at work for the process that has it, which sees to its health.
            return if seen.health == Health::NotReady { seen } else { Seen::WELL };
        }
        let suspicious = seen.health == Health::Silent || health.check == Check::Tcp;
        match self.managed(instance) {
            // Only the backend can tell a frozen server from a busy one; and a frozen one still accepts connections.
            Some((backend, key)) if suspicious && backend.frozen(&key).await => {
                Seen { health: Health::Frozen, words: "its processes are paused".to_owned() }
            }
            Some(_) | None => seen,
        }
    }

    /// What is known of an instance that is not well, in words.
    pub(super) fn note(&self, instance: InstanceId, words: String) {
        if let Some(life) = self.instances.lock().get_mut(&instance) {
            life.seen = Some(words.into());
        }
    }

    /// Tells what is known of an instance that ought to be ready by now.
    pub(super) fn examine(self: &Arc<Self>, instance: InstanceId) {
        let control = self.clone();
        self.tasks.spawn(async move {
            let log = match control.managed(instance) {
                Some((backend, key)) => backend.last_lines(&key).await.into(),
                None => Arc::default(),
            };
            let saw = control.instances.lock().get(&instance).and_then(|life| life.seen.clone());
            if control.backend().is_none() {
                control.warn_of(instance, saw.as_deref());
            }
            control.dispatcher.tell(Event::InstanceExamined { instance, saw, log });
        });
    }

    /// A server that nobody starts has been away for as long as a start may take: said once for each thing that is seen.
    fn warn_of(&self, instance: InstanceId, saw: Option<&str>) {
        let Some(saw) = saw else { return };
        let after = humantime::format_duration(self.service().config.health.start_timeout);
        let mut instances = self.instances.lock();
        let Some(life) = instances.get_mut(&instance) else { return };
        if life.told.as_deref() != Some(saw) {
            life.told = Some(saw.into());
            tracing::warn!(instance = %self.key(instance), saw, "a server is not ready within {after}");
        }
    }

    /// It is ready, for the first time perhaps; gives whether it is to be replaced because of what it was made from.
    fn ready(&self, instance: InstanceId) -> bool {
        let (starting, outdated) = match self.instances.lock().get_mut(&instance) {
            Some(life) => {
                (life.seen, life.told) = (None, None);
                (life.starting.take(), std::mem::take(&mut life.outdated))
            }
            None => (None, false),
        };
        if let Some(since) = starting {
            let took = self.clock.now().since(since);
            self.metrics.started(took);
            self.events.ready(self.key(instance), took);
            tracing::info!(instance = %self.key(instance), took_ms = took.as_millis() as u64, "instance ready");
        }
        outdated
    }

    /// Follows the instance's log until a line matches, where readiness is told by the log.
    pub(super) fn watch_log(self: &Arc<Self>, instance: InstanceId) {
        let service = self.service();
        let Check::Log(pattern) = &service.config.health.check else { return };
        let (control, pattern) = (self.clone(), pattern.clone());
        self.tasks.spawn(async move {
            if control.log_matches(instance, &pattern).await
                && let Some(life) = control.instances.lock().get_mut(&instance)
            {
                life.log_matched = true;
            }
        });
    }

    async fn log_matches(&self, instance: InstanceId, pattern: &Pattern) -> bool {
        let Some((backend, key)) = self.managed(instance) else { return true };
        let Ok(mut log) = backend.logs(&key, 1000, true).await else { return false };
        let mut line = Vec::new();
        while let Some(Ok(chunk)) = log.next().await {
            for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if pattern.is_match(&line) {
                    return true;
                }
                if part.ends_with(b"\n") || line.len() > 64 * 1024 {
                    line.clear();
                }
            }
        }
        false
    }
}
