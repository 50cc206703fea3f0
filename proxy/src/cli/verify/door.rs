//! Which proxy the load goes to, and whether that is the one of the admin API: kills in one cluster and load on another
//! would show nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use tokio::time::timeout;

use super::load::{Load, Outcome};
use crate::admin::view::Services;
use crate::cli::CliError;
use crate::cli::client::Client;
use crate::http_client::Server;

/// Where a proxy is that says nothing of it.
const USUAL: &str = "http://127.0.0.1:5000";

/// A proxy, found.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) server: Server,
    /// How the names begin that its process gives to requests; empty where it does not say.
    process: String,
}

impl Door {
    /// The proxy that is `named`, or else the first listener that the admin API tells of, one in the clear if there is.
    pub(super) async fn find(named: Option<Server>, client: &Client) -> Result<Self, CliError> {
        let services: Services = client.json(Method::GET, "/services", None).await?;
        let own = services.proxy;
        let mut urls = own.listen;
        urls.sort_by_key(|url| url.starts_with("https:"));
        let first = urls.first().map_or(USUAL, String::as_str);
        let listed = Server::parse(first).map_err(CliError::Failed)?;
        let server = named.unwrap_or_else(|| listed.seen_from(client.server()));
        server.connect::<Full<Bytes>>().await.map_err(|why| {
            let at = server.url();
            CliError::Failed(format!("no Longshore answers at {at} ({why}): name the proxy with --proxy"))
        })?;
        Ok(Self { server, process: own.id })
    }

    /// Sends a first request, and says what is wrong where nothing would be shown by more of them.
    pub(super) async fn knock(&self, load: &Arc<Load>, seed: u64, within: Duration) -> Result<(), CliError> {
        let failed = |why: String| Err(CliError::Failed(why));
        let at = self.server.url();
        let Ok(first) = timeout(within, load.first(seed)).await else {
            let within = crate::cli::output::duration(within);
            return failed(format!("{at} has not answered the first request within {within}"));
        };
        let ours = first.request_id.as_deref().is_some_and(|id| id.starts_with(&self.process));
        match first.outcome {
            Outcome::Lost(why) => failed(format!("{at} has not answered the first request: {why}")),
            Outcome::Answered { .. } | Outcome::Refused(_) if !ours => failed(format!(
                "{at} is not the proxy of {}, the admin API that was asked: name the one with --proxy, or the other \
                 with --admin",
                load.admin
            )),
            Outcome::Refused(refusal) if !refusal.passes => {
                failed(format!("{at} refuses the first request: {refusal}"))
            }
            Outcome::Answered { .. } | Outcome::Refused(_) => Ok(()),
        }
    }
}
