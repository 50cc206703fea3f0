//! The admin API: what operators, commands and Prometheus ask. Reads snapshots; changes nothing but through the pools.

mod guard;
mod routes;
mod size;
pub mod view;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::control::Control;
use crate::jobs::Jobs;
use crate::metrics::Metrics;

/// What the API can reach.
pub struct Admin {
    /// The cluster's name.
    pub cluster: String,
    /// `docker` or `process`.
    pub backend: &'static str,
    /// By name.
    pub services: Vec<Arc<Control>>,
    /// For scrapes.
    pub metrics: Arc<Metrics>,
    /// Demanded of every request, if there is one.
    pub token: Option<String>,
    /// The cluster's jobs.
    pub jobs: Arc<Jobs>,
    /// Told when somebody asks for the end.
    pub shutdown: tokio::sync::mpsc::UnboundedSender<()>,
}

impl Admin {
    /// Answers on `listener` for as long as the process lives.
    pub async fn serve(self: Arc<Self>, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        let app = routes::router(self).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, app).await
    }

    fn service(&self, name: &str) -> Option<&Arc<Control>> {
        self.services.iter().find(|control| *control.service().name == *name)
    }
}
