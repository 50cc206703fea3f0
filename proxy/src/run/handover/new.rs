//! The process that comes: it asks for what the old one has, and serves once it has everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::link::Link;
use super::{Listener, Message, Offer, PROTOCOL, Using, shared, socket_path};
use crate::config::{self, Scheme, Service, parse_size};
use crate::control::Control;
use crate::gateway::listen::Socket;

/// How long the old process may take for a word that needs no work.
const WORD: Duration = Duration::from_secs(10);

/// How long it may take to hold still: a start may be under way.
const HOLD: Duration = Duration::from_secs(90);

/// A process that runs, and lets itself be taken over.
pub(in crate::run) struct Predecessor {
    cluster: String,
    link: Link,
    offer: Offer,
    sockets: Vec<(Listener, Option<std::os::fd::OwnedFd>)>,
    /// What it still uses, from the moment at which it has stopped to serve.
    using: Vec<Using>,
    gone: bool,
}

/// What is known of the instances once the old process holds still.
#[derive(Default)]
pub(in crate::run) struct Held {
    /// Those that it is stopping, as `SERVICE-SLOT-INCARNATION`: it will remove them itself.
    pub(in crate::run) stopping: Vec<String>,
    /// The last incarnation of each service.
    pub(in crate::run) last: BTreeMap<String, u32>,
}

impl Predecessor {
    /// Asks the process that serves the cluster. None if there is none; an error if it will not.
    pub(in crate::run) async fn ask(cluster: &str) -> Result<Option<Self>, String> {
        let path =
            socket_path(cluster).map_err(|error| format!("cannot look for the running process: {error}"))?;
        let Ok(stream) = UnixStream::connect(&path).await else { return Ok(None) };
        let failed = |error: std::io::Error| format!("the running process cannot be spoken to: {error}");
        let mut link = Link::new(stream).map_err(failed)?;
        link.send(&Message::Hello { protocol: PROTOCOL, pid: std::process::id() }).await.map_err(failed)?;
        let offer = match timeout(WORD, link.next()).await {
            Ok(Ok(Message::Offer(offer))) => offer,
            Ok(Ok(Message::No { why })) => return Err(format!("the running process refuses: {why}")),
            Ok(Ok(other)) => return Err(format!("the running process says {other:?}")),
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => return Err(format!("the running process is silent for {} s", WORD.as_secs())),
        };
        let descriptors = link.take_descriptors().into_iter().map(Some);
        let all = offer.listeners.iter().copied().chain([offer.admin]);
        let sockets = all.zip(descriptors.chain(std::iter::repeat_with(|| None))).collect();
        tracing::info!(pid = offer.pid, version = offer.version, "taking over from the process that runs");
        Ok(Some(Self { cluster: cluster.to_owned(), link, offer, sockets, using: Vec::new(), gone: false }))
    }

    /// What runs its instances.
    pub(in crate::run) fn backend(&self) -> &str {
        &self.offer.backend
    }

    /// Its listening socket for this address, as it was asked for. What is spoken there may change, but of sockets whose
    /// port was picked it is what tells them apart.
    pub(in crate::run) fn socket(&mut self, wanted: config::Listener) -> Option<Socket> {
        let (asked, tls) = (wanted.address, wanted.scheme == Scheme::Https);
        let fits = |(listener, descriptor): &&mut (Listener, Option<_>)| {
            let same = match asked.port() {
                0 => listener.asked == asked && listener.tls == tls,
                _ => listener.asked == asked || listener.address == asked,
            };
            same && descriptor.is_some()
        };
        let (listener, descriptor) = self.sockets.iter_mut().find(fits)?;
        Some(Socket::inherited(asked, listener.address, descriptor.take()?.into()))
    }

    /// The last incarnation that it has given, of each service.
    pub(in crate::run) fn last(&self) -> &BTreeMap<String, u32> {
        &self.offer.last
    }

    /// Sizes that were set while it ran stay in force, where the file says of them what it said then.
    pub(in crate::run) fn set_sizes(&self, controls: &[Arc<Control>]) {
        for control in controls {
            let service = control.service();
            let config: &Service = &service.config;
            let Some(set) = self.offer.sizes.get(&*service.name) else { continue };
            if set.file == config.size.form()
                && let Ok(size) = parse_size(&set.size)
            {
                tracing::info!(service = %service.name, size = %set.size, "the size that was set stays in force");
                service.sizing.set(size);
            }
        }
    }

    /// From the return on the old process begins nothing with any container.
    pub(in crate::run) async fn hold(&mut self) -> Result<Held, String> {
        match self.say(&Message::Hold, HOLD).await? {
            Some(Message::Held { stopping, last }) => Ok(Held { stopping, last }),
            Some(other) => Err(format!("the running process says {other:?}")),
            None => Ok(Held::default()),
        }
    }

    /// From the return on the old process takes no connection, and what runs is this one's.
    pub(in crate::run) async fn commit(&mut self) -> Result<(), String> {
        match self.say(&Message::Commit, WORD).await? {
            Some(Message::Yours(using)) => {
                self.using = using;
                Ok(())
            }
            Some(other) => Err(format!("the running process says {other:?}")),
            None => Ok(()),
        }
    }

    /// Says something and waits for the answer; none when the old process has died, so that all is this one's anyway.
    async fn say(&mut self, message: &Message, limit: Duration) -> Result<Option<Message>, String> {
        if self.gone {
            return Ok(None);
        }
        let talk = async {
            self.link.send(message).await?;
            self.link.next().await
        };
        match timeout(limit, talk).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) if Self::lives(&self.cluster).await == Ok(true) => {
                Err(format!("the running process has broken off the hand-over ({error}); it goes on"))
            }
            Ok(Err(_)) => {
                tracing::warn!(
                    "the old process has died in the middle of the hand-over: going on without it"
                );
                self.gone = true;
                Ok(None)
            }
            Err(_) => {
                Err(format!("the running process is silent for {} s; nothing was changed", limit.as_secs()))
            }
        }
    }

    /// Whether there is somebody to whom the instances belong.
    pub(in crate::run) async fn lives(cluster: &str) -> Result<bool, String> {
        let path = socket_path(cluster).map_err(|error| error.to_string())?;
        Ok(UnixStream::connect(path).await.is_ok())
    }

    /// What the old process still uses is kept free for it, before the first request is served here.
    pub(in crate::run) fn keep_free(&self, controls: &[Arc<Control>]) {
        shared::keep_free(controls, &self.using);
    }

    /// Goes on so until the old process is gone. It is asked to `hurry` when that rings.
    pub(in crate::run) async fn go_on(self, controls: impl Fn() -> Vec<Arc<Control>>, hurry: &Notify) {
        if !self.gone {
            shared::go_on(self.link, controls, false, hurry).await;
        }
        tracing::info!(pid = self.offer.pid, "the old process is gone: the take-over is complete");
    }
}
