//! From a specification to the engine's configuration of a container, and from its inspection to an address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, DeviceRequest, HostConfig, HostConfigLogConfig,
    NetworkSettings, PortBinding, PortMap,
};

use super::labels;
use crate::{Gpus, Key, Reach, Spec};

/// What of a container's configuration is not in its specification.
pub(super) struct Frame<'a> {
    pub(super) cluster: &'a str,
    pub(super) key: &'a Key,
    /// Where ports are published.
    pub(super) publish_at: IpAddr,
    /// Whether the engine has an init program. It passes signals on to servers that, as process 1, would ignore
    /// SIGTERM, and reaps their orphans; it costs nothing that can be measured at start.
    pub(super) init: bool,
}

/// The whole configuration.
pub(super) fn configuration(frame: &Frame<'_>, spec: &Spec) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        env: Some(environment(spec)),
        user: spec.user.clone(),
        labels: Some(labels::of(frame.cluster, frame.key, &spec.digest(), spec.port)),
        exposed_ports: Some(vec![container_port(spec.port)]),
        host_config: Some(host_config(frame, spec)),
        ..ContainerCreateBody::default()
    }
}

fn environment(spec: &Spec) -> Vec<String> {
    let given =
        spec.env.iter().filter(|(name, _)| *name != "PORT").map(|(name, value)| format!("{name}={value}"));
    given.chain([format!("PORT={}", spec.port)]).collect()
}

fn host_config(frame: &Frame<'_>, spec: &Spec) -> HostConfig {
    HostConfig {
        binds: Some(spec.volumes.iter().map(|volume| bind(volume)).collect()),
        memory: spec.memory.map(engine_number),
        // No swap on top of it: a model server that swaps is slower than one that is started anew.
        memory_swap: spec.memory.map(engine_number),
        nano_cpus: spec.cpus.map(|cpus| (cpus * 1e9).round() as i64),
        device_requests: spec.gpus.map(|gpus| vec![gpu_request(gpus)]),
        network_mode: match spec.address {
            Reach::Host => Some("host".to_owned()),
            Reach::Published | Reach::Container => spec.network.clone(),
        },
        port_bindings: match spec.address {
            Reach::Published => Some(published(frame.publish_at, spec.port)),
            Reach::Container | Reach::Host => None,
        },
        init: frame.init.then_some(true),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        log_config: Some(log_config()),
        ..HostConfig::default()
    }
}

fn engine_number(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn container_port(port: u16) -> String {
    format!("{port}/tcp")
}

/// An empty host port lets the engine pick one.
fn published(at: IpAddr, port: u16) -> PortMap {
    let binding = PortBinding { host_ip: Some(at.to_string()), host_port: Some(String::new()) };
    HashMap::from([(container_port(port), Some(vec![binding]))])
}

fn gpu_request(gpus: Gpus) -> DeviceRequest {
    let count = match gpus {
        Gpus::All => -1,
        Gpus::Count(count) => i64::from(count),
    };
    DeviceRequest {
        count: Some(count),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    }
}

/// The one driver that every engine has and that `logs` can read, bounded, so that a talkative server fills no disk.
fn log_config() -> HostConfigLogConfig {
    let config =
        [("max-size", "10m"), ("max-file", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(config.into()) }
}

/// The engine takes a relative host path for the name of a volume: make it absolute, as Compose does.
fn bind(volume: &str) -> String {
    let (host, rest) = volume.split_once(':').unwrap_or((volume, ""));
    let relative = host == "." || host == ".." || host.starts_with("./") || host.starts_with("../");
    let home =
        host.strip_prefix("~/").and_then(|rest| Some(Path::new(&std::env::var_os("HOME")?).join(rest)));
    let absolute = if relative { std::path::absolute(host).ok() } else { home };
    match absolute {
        Some(path) if !rest.is_empty() => format!("{}:{rest}", path.display()),
        Some(_) | None => volume.to_owned(),
    }
}

/// Where a running container listens; `published_at` is where published ports are.
///
/// 1. On the host's network: at its port there.
/// 2. Published: at its published port.
/// 3. Else at its own address.
pub(super) fn address(inspected: &ContainerInspectResponse, published_at: IpAddr) -> Option<SocketAddr> {
    let port = port_inside(inspected)?;
    if is_on_host_network(inspected) {
        return Some((published_at, port).into());
    }
    let settings = inspected.network_settings.as_ref()?;
    if asks_for_publishing(inspected, port) {
        return Some((published_at, published_port(settings, port)?).into());
    }
    own_endpoint(settings).map(|(ip, _)| (ip, port).into())
}

/// The own address of a published container, where this machine has a way to it.
pub(super) fn own_address(inspected: &ContainerInspectResponse) -> Option<SocketAddr> {
    let port = port_inside(inspected)?;
    let (ip, gateway) = own_endpoint(inspected.network_settings.as_ref()?)?;
    let reachable = asks_for_publishing(inspected, port) && gateway.is_some_and(is_ours);
    reachable.then_some((ip, port).into())
}

fn port_inside(inspected: &ContainerInspectResponse) -> Option<u16> {
    inspected.config.as_ref()?.labels.as_ref()?.get(labels::PORT)?.parse().ok()
}

/// Whether an address is one of this machine's. A container network whose gateway is ours has a route here; on Docker
/// Desktop, and with remote engines, it is another machine's.
fn is_ours(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

fn is_on_host_network(inspected: &ContainerInspectResponse) -> bool {
    inspected.host_config.as_ref().and_then(|host| host.network_mode.as_deref()) == Some("host")
}

fn asks_for_publishing(inspected: &ContainerInspectResponse, port: u16) -> bool {
    let bindings = inspected.host_config.as_ref().and_then(|host| host.port_bindings.as_ref());
    bindings.is_some_and(|bindings| bindings.contains_key(&container_port(port)))
}

fn published_port(settings: &NetworkSettings, port: u16) -> Option<u16> {
    let bindings = settings.ports.as_ref()?.get(&container_port(port))?.as_ref()?;
    bindings.iter().find_map(|binding| binding.host_port.as_ref()?.parse().ok())
}

/// The container's address and its network's gateway, in the first network by name that gives one; there is no
/// top-level one in newer engines.
fn own_endpoint(settings: &NetworkSettings) -> Option<(IpAddr, Option<IpAddr>)> {
    let mut networks: Vec<_> = settings.networks.as_ref()?.iter().collect();
    networks.sort_by_key(|(name, _)| name.as_str());
    networks.into_iter().find_map(|(_, endpoint)| {
        let ip = endpoint.ip_address.as_ref()?.parse().ok()?;
        Some((ip, endpoint.gateway.as_ref().and_then(|gateway| gateway.parse().ok())))
    })
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
