//! Which engine, and whether it answers.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs as _};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};

use super::call::{self, within};
use crate::StartError;

/// Where an engine is when nobody says otherwise.
const DEFAULT: &str = "unix:///var/run/docker.sock";
/// How long the first ping may take: `up` waits for it before it falls back to processes.
const FIRST: Duration = Duration::from_secs(2);
/// bollard's own time limit, in seconds, is out of the way: it would end builds with large contexts. Every call is
/// limited where it is made.
const NO_LIMIT: u64 = 24 * 60 * 60;

/// An engine that has answered.
pub(super) struct Connection {
    pub(super) docker: Docker,
    /// Where its published ports are reached: 127.0.0.1 of this machine, or the address of another one.
    pub(super) address: IpAddr,
}

/// Connects to `host`, else to `DOCKER_HOST`, else to the local socket.
pub(super) async fn connect(host: Option<&str>) -> Result<Connection, StartError> {
    let from_environment = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let host = host.map(str::to_owned).or(from_environment).unwrap_or_else(|| DEFAULT.to_owned());
    let connection = open(&host)?;
    let unreachable = |error: &Error| {
        StartError::EngineDown(format!("no Docker engine answers at {host}: {}", call::text(error)))
    };
    within(FIRST, connection.docker.ping()).await.map_err(|error| unreachable(&error))?;
    // Shared by all clones, so that the negotiated version need not be kept.
    within(FIRST, connection.docker.clone().negotiate_version())
        .await
        .map_err(|error| unreachable(&error))?;
    Ok(connection)
}

fn open(host: &str) -> Result<Connection, StartError> {
    if host.starts_with("unix://") || host.starts_with('/') {
        let docker = Docker::connect_with_unix(host, NO_LIMIT, API_DEFAULT_VERSION)
            .map_err(|error| refused(host, &error))?;
        return Ok(Connection { docker, address: Ipv4Addr::LOCALHOST.into() });
    }
    let Some(authority) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) else {
        return Err(StartError::Futile(format!(
            "{host} names no engine that longshore can speak to: unix://PATH or tcp://HOST:PORT"
        )));
    };
    if std::env::var("DOCKER_TLS_VERIFY").is_ok_and(|value| !value.is_empty()) {
        return Err(StartError::Futile(format!(
            "DOCKER_TLS_VERIFY asks for TLS to {host}, which longshore does not speak: use a local socket or a tunnel"
        )));
    }
    let docker = Docker::connect_with_http(host, NO_LIMIT, API_DEFAULT_VERSION)
        .map_err(|error| refused(host, &error))?;
    Ok(Connection { docker, address: resolve(authority.trim_end_matches('/'))? })
}

fn refused(host: &str, error: &Error) -> StartError {
    StartError::EngineDown(format!("no Docker engine answers at {host}: {}", call::text(error)))
}

/// The address of another machine's engine is where its published ports are.
fn resolve(authority: &str) -> Result<IpAddr, StartError> {
    let found = authority.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    match found {
        Some(address) if address.ip().is_loopback() => Ok(Ipv4Addr::LOCALHOST.into()),
        Some(address) => Ok(address.ip()),
        None => Err(StartError::EngineDown(format!("{authority} is no HOST:PORT that can be resolved"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_engine_is_named() {
        let error = connect(Some("unix:///nowhere/docker.sock")).await.err().unwrap();
        assert!(
            matches!(&error, StartError::EngineDown(text) if text.contains("unix:///nowhere/docker.sock"))
        );
    }

    #[tokio::test]
    async fn a_port_where_nothing_listens_is_no_engine() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("tcp://{}", listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(connect(Some(&host)).await, Err(StartError::EngineDown(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_accepts_and_says_nothing_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("tcp://{}", listener.local_addr().unwrap());
        assert!(
            matches!(connect(Some(&host)).await, Err(StartError::EngineDown(text)) if text.contains("in time"))
        );
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_futile() {
        assert!(matches!(connect(Some("ssh://gpu1")).await, Err(StartError::Futile(_))));
    }

    #[test]
    fn another_machines_ports_are_at_its_address() {
        assert_eq!(resolve("10.0.0.2:2375").unwrap(), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(resolve("127.0.0.1:2375").unwrap(), IpAddr::from([127, 0, 0, 1]));
    }
}
