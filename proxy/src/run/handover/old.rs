//! The process that goes: it offers what it has, holds still when asked to, and gives up its instances once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::{Listener, Message, Offer, PROTOCOL, SizeSet, shared, socket_path};
use crate::config::Scheme;
use crate::control::Control;
use crate::gateway::listen::Socket;

/// How long the other end may take for a word that needs no work.
const WORD: Duration = Duration::from_secs(10);

/// How long starts that are under way may take before a take-over is given up.
const STARTS: Duration = Duration::from_secs(60);

/// How long a process that has been taken over before may take to go when another take-over follows.
const BEFORE: Duration = Duration::from_secs(3);

/// Where a new process may ask to take over.
pub(in crate::run) struct Meeting {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

/// What the conversation asks of whoever serves.
pub(in crate::run) enum Step {
    /// The other one has given up: go on as before.
    GivenUp,
    /// The other one serves from now on; answered when no connection is taken here any more.
    Commit(Successor),
}

/// The process that has taken over.
pub(in crate::run) struct Successor {
    link: Link,
    /// Whether it has the instances, too.
    adopts: bool,
    stopped: oneshot::Sender<()>,
}

/// What is at hand to be given.
pub(in crate::run) struct Estate {
    pub(in crate::run) backend: &'static str,
    pub(in crate::run) listeners: Vec<(Socket, Scheme)>,
    pub(in crate::run) admin: Socket,
    pub(in crate::run) controls: Vec<Arc<Control>>,
    /// The process that this one has taken over from, while it is there.
    pub(in crate::run) before: Option<Arc<Before>>,
}

/// The process that this one has taken over from.
#[derive(Default)]
pub(in crate::run) struct Before {
    /// Rings when it is to hurry.
    pub(in crate::run) hurry: Notify,
    /// Cancelled when it is gone.
    pub(in crate::run) gone: CancellationToken,
}

impl Before {
    /// Asks it to hurry, and waits for a while until it is gone. What it still answers then is not known to a third
    /// process, which may send more to an instance than that takes.
    async fn leave(&self) {
        self.hurry.notify_one();
        if timeout(BEFORE, self.gone.cancelled()).await.is_err() {
            tracing::warn!("the process before this one still answers what it has accepted");
        }
    }
}

impl Meeting {
    /// Waits at the cluster's place from now on. Whoever waited there before is gone, or is handing over.
    pub(in crate::run) fn open(cluster: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let path = socket_path(cluster)?;
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        // What an earlier process of this number has left.
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        std::fs::rename(&beside, &path)?;
        let inode = std::fs::symlink_metadata(&path)?.ino();
        Ok(Self { listener, path, inode })
    }

    /// Somebody who wants to take over. Cancel-safe.
    pub(in crate::run) async fn next(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::debug!(%error, "failed to accept a process that wants to take over");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt as _;
        // By now it may be the successor's.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Talks with a process that wants to take over, until it does or gives up.
pub(in crate::run) async fn talk(stream: UnixStream, estate: Estate, steps: mpsc::UnboundedSender<Step>) {
    let controls = estate.controls.clone();
    let mut held = false;
    if let Err(why) = conversation(stream, estate, &steps, &mut held).await {
        tracing::warn!(why, "a take-over has been given up: this process goes on");
        if held {
            controls.iter().for_each(Control::resume_charge);
        }
        // Nobody serves any more only when the process is ending.
        let _ = steps.send(Step::GivenUp);
    }
}

async fn conversation(
    stream: UnixStream,
    estate: Estate,
    steps: &mpsc::UnboundedSender<Step>,
    held: &mut bool,
) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut link = Link::new(stream).map_err(text)?;
    let hello = timeout(WORD, link.next()).await.map_err(|_| "it says nothing".to_owned())?.map_err(text)?;
    let Message::Hello { protocol, pid } = hello else { return Err(format!("it begins with {hello:?}")) };
    if protocol != PROTOCOL {
        let why = format!("this process speaks version {PROTOCOL} of the hand-over, not {protocol}");
        link.send(&Message::No { why: why.clone() }).await.map_err(text)?;
        return Err(why);
    }
    tracing::info!(pid, "another process prepares to take over");
    if let Some(before) = &estate.before {
        before.leave().await;
    }
    let sockets = estate.listeners.iter().map(|(socket, _)| socket).chain([&estate.admin]);
    let descriptors: Vec<_> = sockets.map(Socket::descriptor).collect();
    link.send_with(&Message::Offer(offer(&estate)), &descriptors).await.map_err(text)?;
    loop {
        match link.next().await.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "the other process has gone".to_owned(),
            _ => error.to_string(),
        })? {
            Message::Hold => {
                *held = true;
                link.send(&hold(&estate.controls).await?).await.map_err(text)?;
            }
            Message::Commit => {
                let (stopped, done) = oneshot::channel();
                steps
                    .send(Step::Commit(Successor { link, adopts: *held, stopped }))
                    .map_err(|_| "ending".to_owned())?;
                // Whoever serves goes on from here; what it drops, it has used.
                let _ = done.await;
                return Ok(());
            }
            other => return Err(format!("it says {other:?}")),
        }
    }
}

fn offer(estate: &Estate) -> Offer {
    let listener = |one: &Socket, scheme: Scheme| Listener {
        asked: one.asked,
        address: one.address,
        tls: scheme == Scheme::Https,
    };
    let sizes = estate.controls.iter().filter_map(|control| {
        let service = control.service();
        let set = SizeSet { size: service.sizing.present().form(), file: service.config.size.form() };
        service.sizing.overridden().then(|| (service.name.to_string(), set))
    });
    Offer {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: estate.backend.to_owned(),
        listeners: estate.listeners.iter().map(|(one, scheme)| listener(one, *scheme)).collect(),
        admin: listener(&estate.admin, Scheme::Http),
        last: last(&estate.controls),
        sizes: sizes.collect(),
    }
}

fn last(controls: &[Arc<Control>]) -> BTreeMap<String, u32> {
    let of = |control: &Arc<Control>| {
        let service = control.service();
        (service.name.to_string(), service.dispatcher.last_incarnation())
    };
    controls.iter().map(of).collect()
}

/// Begins nothing more, and waits for what has begun.
async fn hold(controls: &[Arc<Control>]) -> Result<Message, String> {
    let name = |control: &Arc<Control>| control.service().name.to_string();
    let last = controls.iter().map(|control| (name(control), control.hold())).collect();
    let started = futures_util::future::join_all(controls.iter().map(|control| control.started()));
    timeout(STARTS, started).await.map_err(|_| "a start that is under way does not end".to_owned())?;
    let stopping =
        controls.iter().flat_map(|control| control.stopping()).map(|key| key.to_string()).collect();
    Ok(Message::Held { stopping, last })
}

impl Successor {
    /// Whether the instances are its own from now on.
    pub(in crate::run) const fn adopts(&self) -> bool {
        self.adopts
    }

    /// No connection is taken any more here: it may serve, and knows it at the return. What is returned keeps apart what both
    /// use, until one is gone; `hurry` rings when there is no time to wait for clients that ask for nothing.
    pub(in crate::run) async fn let_serve(
        self,
        controls: Vec<Arc<Control>>,
        hurry: Arc<Notify>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let Self { link, adopts, stopped } = self;
        if adopts {
            controls.iter().for_each(Control::give_up);
        }
        let using = if adopts { shared::used(&controls, true) } else { Vec::new() };
        let told = link.send(&Message::Yours(using)).await;
        let _ = stopped.send(());
        async move {
            match told {
                Ok(()) if adopts => shared::go_on(link, || controls.clone(), true, &hurry).await,
                Ok(()) => heard(link, &hurry).await,
                Err(error) => tracing::error!(%error, "the process that has taken over is gone"),
            }
        }
    }
}

/// Listens to the process that has taken over, where nothing is shared with it.
async fn heard(mut link: Link, hurry: &Notify) {
    while let Ok(said) = link.next().await {
        if said == Message::Hurry {
            hurry.notify_one();
        }
    }
}
