//! A cluster that is served, and another configuration being put in force while it is.
//!
//! 1. The file is read and checked; a mistake refuses it, and the configuration in force stays.
//! 2. What is different is found, and whether it may change while the cluster runs.
//! 3. What can fail is done: ports are bound, the token is read, images are built or pulled.
//! 4. Then all of it is put in force, which cannot fail. Services without a difference are not touched.
//!
//! An end that is asked for meanwhile cancels a reload before (4) only.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::announce::{Announcements, is_short};
use super::cluster::Cluster;
use super::difference::{Changed, Difference};
use super::doors::AdminDoor;
use super::handover::old::{self, Before, Estate, Meeting, Step, Successor};
use super::watch::FileWatch;
use super::{Ends, refused};
use crate::admin::view::{ProxyView, ReloadView};
use crate::admin::{Admin, Order, Refusal};
use crate::config::{BackendKind, Config, Service, Source};
use crate::console::Console;
use crate::control::Control;
use crate::events::Kind;
use crate::gateway::Gateway;
use crate::gateway::listen::{BindError, Bound, Listening, Socket};
use crate::gateway::route::Routes;

/// A cluster that is served.
pub(super) struct Serving {
    pub(super) cluster: Cluster,
    pub(super) gateway: Arc<Gateway>,
    pub(super) listening: Listening,
    pub(super) admin: Arc<Admin>,
    pub(super) door: AdminDoor,
    /// In force.
    pub(super) config: Config,
    /// Where it was read.
    pub(super) file: Option<PathBuf>,
    /// The backend that the command line demands, whatever the file says.
    pub(super) named_backend: Option<BackendKind>,
    pub(super) console: Console,
    /// Where another process may ask to take over.
    pub(super) meeting: Option<Meeting>,
    /// The process that this one has taken over from, while it is there.
    pub(super) before: Option<Arc<Before>>,
    /// What is still to be said of services that start.
    pub(super) announcements: Announcements,
}

/// Why a cluster is served no more.
pub(super) enum End {
    /// Somebody has asked for it.
    Asked,
    /// Another process serves it.
    TakenOver(Successor),
}

/// What is at hand before anything is put in force.
struct Ready {
    config: Config,
    difference: Difference,
    bound: Bound,
    admin: Option<Socket>,
    token: Option<String>,
}

type Answer = oneshot::Sender<Result<ReloadView, Refusal>>;

impl Serving {
    /// Serves until somebody asks for the end, and reloads whenever somebody asks for that.
    pub(super) async fn until_the_end(
        &mut self,
        ends: &mut Ends,
        inbox: &mut mpsc::UnboundedReceiver<Order>,
        mut watched: Option<FileWatch>,
    ) -> End {
        let (steps, mut taken) = mpsc::unbounded_channel();
        let mut talking = false;
        loop {
            let (cause, answer): (_, Option<Answer>) = tokio::select! {
                _ = ends.interrupt.recv() => return End::Asked,
                _ = ends.terminate.recv() => return End::Asked,
                stream = next(self.meeting.as_ref()), if !talking => {
                    talking = self.talk(stream, &steps);
                    continue;
                }
                Some(step) = taken.recv() => match step {
                    Step::GivenUp => {
                        talking = false;
                        continue;
                    }
                    Step::Commit(successor) => return End::TakenOver(successor),
                },
                _ = ends.hangup.recv() => ("SIGHUP", None),
                () = changed(&mut watched) => ("the file has changed", None),
                Some(order) = inbox.recv() => match order {
                    Order::Shutdown => return End::Asked,
                    Order::Reload(answer) if talking => {
                        let _ = answer.send(Err(Refusal::taken_over()));
                        continue;
                    }
                    Order::Reload(answer) => ("POST /reload", Some(answer)),
                },
            };
            if talking {
                // The other process reads the file itself; should it give up, somebody has to ask again.
                tracing::warn!(cause, "the configuration is not read again while another process takes over");
                continue;
            }
            if let Some(watched) = &mut watched {
                watched.is_read();
            }
            let told = tokio::select! {
                told = self.reload(cause) => told,
                () = ends.asked(inbox) => return End::Asked,
            };
            if let Some(answer) = answer {
                // Whoever asked may have left.
                let _ = answer.send(told);
            }
        }
    }

    /// Talks with a process that wants to take over, in a task of its own; whether it does.
    fn talk(&self, stream: UnixStream, steps: &mpsc::UnboundedSender<Step>) -> bool {
        let sockets = self.listening.copies().and_then(|all| Ok((all, self.door.socket().copy()?)));
        match sockets {
            Ok((listeners, admin)) => {
                let controls = self.cluster.controls.load().to_vec();
                let before = self.before.clone().filter(|before| !before.gone.is_cancelled());
                let backend = self.cluster.backend.kind();
                let estate = Estate { backend, listeners, admin, controls, before };
                tokio::spawn(old::talk(stream, estate, steps.clone()));
                true
            }
            Err(error) => {
                tracing::error!(%error, "the sockets cannot be handed over");
                false
            }
        }
    }

    /// Reads the file again and puts it in force, or says why not.
    async fn reload(&mut self, cause: &str) -> Result<ReloadView, Refusal> {
        let metrics = self.cluster.metrics.clone();
        let ready = match self.prepare().await {
            Ok(ready) => ready,
            Err(refusal) => {
                metrics.reloaded("refused");
                let why = refusal.problem.detail();
                tracing::error!(cause, "the new configuration is refused, the present one stays:\n{why}");
                self.cluster.events.tell(Kind::ConfigRefused, why);
                return Err(refusal);
            }
        };
        let view = ready.difference.view();
        if !view.next_start.is_empty() {
            tracing::warn!(
                settings = view.next_start.join(", "),
                "these settings are read at the start only: they are in force after the next `longshore up`, with \
                 --takeover if nothing may be lost"
            );
        }
        let mut result = "unchanged";
        if view.changed {
            if let Err(refusal) = self.apply(ready) {
                metrics.reloaded("refused");
                return Err(refusal);
            }
            result = "applied";
            self.cluster.events.tell(Kind::ConfigApplied, view.summary.clone());
        }
        metrics.reloaded(result);
        metrics.configured(self.cluster.clock.unix_now());
        tracing::info!(cause, "configuration read again: {}", view.summary);
        Ok(view)
    }

    /// Whatever can fail.
    async fn prepare(&self) -> Result<Ready, Refusal> {
        let Some(file) = &self.file else {
            return Err(Refusal::invalid(
                "there is no file to read: `longshore run` serves one image".to_owned(),
            ));
        };
        let path = file.clone();
        // Aside: a name in the file may take its time to be found.
        let loaded = tokio::task::spawn_blocking(move || Config::load(&path)).await;
        let loaded = loaded.map_err(|error| Refusal::invalid(error.to_string()))?;
        let mut config = loaded.map_err(|mistakes| Refusal::broken(&mistakes))?;
        if self.named_backend.is_some() {
            config.backend = self.config.backend;
        }
        let mut difference =
            Difference::between(&self.config, &config).map_err(|fixed| refused::fixed(file, &fixed))?;
        Difference::retain(&mut config, &self.config);
        let token = config.admin.token().map_err(|mistakes| Refusal::broken(&mistakes))?;
        let known = self.admin.token.load();
        if known.as_deref() != token.as_ref() && difference.admin.is_empty() {
            difference.admin.push("token_file");
        }
        let taken = |error: BindError| refused::address(file, &config, &error);
        let bound = Bound::bind(&difference.opened).map_err(taken)?;
        let admin = match self.config.admin.listen == config.admin.listen {
            true => None,
            false => Some(Socket::bind(config.admin.listen).map_err(taken)?),
        };
        self.prepare_images(&config, &difference).await?;
        Ok(Ready { config, difference, bound, admin, token })
    }

    async fn prepare_images(&self, config: &Config, difference: &Difference) -> Result<(), Refusal> {
        let rolling = difference.changed.iter().filter(|changed| changed.rolls).map(|changed| &changed.name);
        let names: HashSet<&String> = difference.added.iter().chain(rolling).collect();
        let services = config.services.iter().filter(|service| names.contains(&service.name.to_string()));
        let specs = services.filter_map(|service| match &service.source {
            Source::Image { spec } => Some((service, spec)),
            Source::Addresses(_) => None,
        });
        let backend = &self.cluster.backend;
        let prepared = futures_util::future::join_all(specs.map(|(service, spec)| async move {
            let made = backend.prepare(spec, false, &self.console).await;
            made.map_err(|error| format!("{} cannot start: {error}", service.name))
        }))
        .await;
        self.console.finish();
        let failed: Vec<String> = prepared.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() { Ok(()) } else { Err(Refusal::invalid(failed.join("\n"))) }
    }

    /// Puts the new configuration in force.
    fn apply(&mut self, ready: Ready) -> Result<(), Refusal> {
        let Ready { config, difference, bound, admin, token } = ready;
        // Before anything else, since it may fail still: with what the process may have open.
        // Those that are opened have it from their first connection on.
        self.gateway.identify(&config.proxy);
        self.listening.open(bound).map_err(|error| Refusal::invalid(error.to_string()))?;
        if let Some(socket) = admin {
            let door =
                AdminDoor::open(&self.admin, socket).map_err(|error| Refusal::invalid(error.to_string()))?;
            self.door = door;
        }
        self.admin.token.store(token.map(Arc::new));
        let leaving: Vec<Arc<Control>> =
            difference.removed.iter().filter_map(|name| self.cluster.control(name)).collect();
        let controls: Vec<Arc<Control>> =
            config.services.iter().map(|service| self.control(service, &config, &difference)).collect();
        self.cluster.controls.store(Arc::new(controls));
        self.gateway.routes.store(Arc::new(Routes::new(&self.cluster.services())));
        self.gateway.configure(&config.proxy);
        self.listening.limit_all();
        self.listening.switch(&difference.switched);
        self.listening.close(&difference.closed, config.proxy.drain);
        leaving.into_iter().for_each(|control| self.cluster.retire(control));
        self.config = config;
        if difference.moves_listeners() {
            let (id, listen) = (self.gateway.id(), self.listening.urls());
            self.admin.proxy.store(Arc::new(ProxyView { id, listen }));
            self.console.serving(&self.listening.urls(), self.door.address(), self.cluster.backend.kind());
        }
        self.announce(&difference);
        Ok(())
    }

    /// The control loop of a service, as it is to be from now on.
    fn control(&self, service: &Service, config: &Config, difference: &Difference) -> Arc<Control> {
        let added = difference.added.iter().any(|name| **name == *service.name);
        let Some(control) = self.cluster.control(&service.name).filter(|_| !added) else {
            return self.cluster.create(service, &config.proxy);
        };
        let next = || control.service().next(service.clone(), &config.proxy);
        match difference.changed.iter().find(|changed| *changed.name == *service.name) {
            Some(Changed { rolls, .. }) => control.configure(next(), self.cluster.runner(service), *rolls),
            // Its pool need not know of `[proxy]`.
            None if !difference.proxy.is_empty() => drop(control.renew(next())),
            None => {}
        }
        control
    }

    /// Says once, in the background, when each service has what it wants that is new, or lacks instances by its change.
    fn announce(&mut self, difference: &Difference) {
        let mut controls = self.cluster.controls.load().to_vec();
        controls.retain(|control| {
            let name = &*control.service().name;
            let changed = || difference.changed.iter().any(|changed| *changed.name == *name);
            difference.added.iter().any(|added| **added == *name) || (changed() && is_short(control))
        });
        self.announcements.begin(controls, &self.console);
    }
}

async fn next(meeting: Option<&Meeting>) -> UnixStream {
    match meeting {
        Some(meeting) => meeting.next().await,
        None => std::future::pending().await,
    }
}

async fn changed(watched: &mut Option<FileWatch>) {
    match watched {
        Some(watched) => watched.changed().await,
        None => std::future::pending().await,
    }
}
