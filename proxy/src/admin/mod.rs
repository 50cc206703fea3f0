//! The admin API: what operators, commands and Prometheus ask. Reads snapshots; changes nothing but through the pools.

mod events;
mod guard;
mod queue;
mod reload;
mod routes;
mod size;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, oneshot};

use crate::control::{Control, Controls};
use crate::events::Events;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
pub use reload::Refusal;
use view::{ProxyView, ReloadView};

/// What the API can reach.
pub struct Admin {
    /// The cluster's name.
    pub cluster: String,
    /// `docker` or `process`.
    pub backend: &'static str,
    /// In the order of the file.
    pub services: Controls,
    /// For whoever listens.
    pub events: Arc<Events>,
    /// Where requests are taken.
    pub proxy: ArcSwap<ProxyView>,
    /// For scrapes.
    pub metrics: Arc<Metrics>,
    /// Demanded of every request, if there is one.
    pub token: ArcSwapOption<String>,
    /// The cluster's jobs.
    pub jobs: Arc<Jobs>,
    /// Told what is asked of the process as a whole.
    pub orders: mpsc::UnboundedSender<Order>,
    /// Whether the process is ending.
    pub ending: AtomicBool,
}

/// What somebody asks of the process as a whole.
pub enum Order {
    /// The end.
    Shutdown,
    /// That the file is read again; answered with what changed.
    Reload(oneshot::Sender<Result<ReloadView, Refusal>>),
}

impl Admin {
    /// Answers on `listener` until `closed` says so, and the last answer is out.
    pub async fn serve(
        self: Arc<Self>,
        listener: tokio::net::TcpListener,
        closed: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let app = routes::router(self).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).with_graceful_shutdown(closed).await
    }

    fn service(&self, name: &str) -> Option<Arc<Control>> {
        self.services.load().iter().find(|control| *control.service().name == *name).cloned()
    }
}
