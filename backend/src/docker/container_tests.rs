use std::net::Ipv4Addr;

use bollard::models::{ContainerConfig, EndpointSettings};

use super::*;
use crate::digest::tests::plain;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn configured(spec: &Spec) -> ContainerCreateBody {
    let key = Key { service: "calc".into(), slot: 0, incarnation: 1 };
    configuration(&Frame { cluster: "demo", key: &key, publish_at: HERE, init: true }, spec)
}

fn on_host(spec: &Spec) -> HostConfig {
    configured(spec).host_config.unwrap()
}

#[test]
fn a_plain_service_is_published_on_loopback_at_a_port_that_the_engine_picks() {
    let host = on_host(&plain());
    let bindings = host.port_bindings.unwrap();
    let binding = &bindings["8080/tcp"].as_ref().unwrap()[0];
    assert_eq!((binding.host_ip.as_deref(), binding.host_port.as_deref()), (Some("127.0.0.1"), Some("")));
    assert_eq!(host.network_mode, None);
    assert_eq!(host.init, Some(true));
    assert_eq!(host.restart_policy, None);
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert_eq!(host.log_config.unwrap().config.unwrap()["max-size"], "10m");
}

#[test]
fn the_environment_ends_with_the_port_whatever_the_file_says() {
    let mut spec = plain();
    spec.env = [("A", "1"), ("PORT", "9")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(configured(&spec).env, Some(vec!["A=1".to_owned(), "PORT=8080".to_owned()]));
}

#[test]
fn limits_are_in_the_engines_units() {
    let mut spec = plain();
    spec.memory = Some(512 << 20);
    spec.cpus = Some(1.5);
    let host = on_host(&spec);
    assert_eq!(
        (host.memory, host.memory_swap, host.nano_cpus),
        (Some(512 << 20), Some(512 << 20), Some(1_500_000_000))
    );
}

#[test]
fn gpus_are_counted_or_all() {
    let mut spec = plain();
    spec.gpus = Some(Gpus::All);
    assert_eq!(on_host(&spec).device_requests.unwrap()[0].count, Some(-1));
    spec.gpus = Some(Gpus::Count(2));
    let request = on_host(&spec).device_requests.unwrap().remove(0);
    assert_eq!(request.count, Some(2));
    assert_eq!(request.capabilities, Some(vec![vec!["gpu".to_owned()]]));
}

#[test]
fn a_service_reached_otherwise_publishes_nothing() {
    let mut spec = plain();
    spec.network = Some("models".to_owned());
    spec.address = Reach::Container;
    let host = on_host(&spec);
    assert_eq!((host.port_bindings, host.network_mode.as_deref()), (None, Some("models")));
    spec.address = Reach::Host;
    let host = on_host(&spec);
    assert_eq!((host.port_bindings, host.network_mode.as_deref()), (None, Some("host")));
}

#[test]
fn a_relative_volume_is_made_absolute_and_a_named_one_is_left() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(bind("./models:/m:ro"), format!("{}/models:/m:ro", here.display()));
    assert_eq!(bind("models:/m"), "models:/m");
    assert_eq!(bind("/srv/models:/m"), "/srv/models:/m");
}

fn inspected(host: HostConfig, settings: NetworkSettings) -> ContainerInspectResponse {
    let labels = HashMap::from([(labels::PORT.to_owned(), "8080".to_owned())]);
    ContainerInspectResponse {
        config: Some(ContainerConfig { labels: Some(labels), ..ContainerConfig::default() }),
        host_config: Some(host),
        network_settings: Some(settings),
        ..ContainerInspectResponse::default()
    }
}

fn bridge(ip: &str, gateway: &str) -> HashMap<String, EndpointSettings> {
    let endpoint = EndpointSettings {
        ip_address: Some(ip.to_owned()),
        gateway: Some(gateway.to_owned()),
        ..EndpointSettings::default()
    };
    HashMap::from([("bridge".to_owned(), endpoint)])
}

/// A container published at 49153, in a network with this gateway.
fn published_behind(gateway: &str) -> ContainerInspectResponse {
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some("49153".to_owned()) };
    let settings = NetworkSettings {
        ports: Some(HashMap::from([("8080/tcp".to_owned(), Some(vec![binding]))])),
        networks: Some(bridge("172.17.0.2", gateway)),
        ..NetworkSettings::default()
    };
    inspected(on_host(&plain()), settings)
}

#[test]
fn an_address_is_the_published_port_if_there_is_one() {
    let seen = address(&published_behind("127.0.0.1"), HERE);
    assert_eq!(seen, Some("127.0.0.1:49153".parse().unwrap()));
}

#[test]
fn a_containers_own_address_is_a_way_where_this_machine_has_its_network() {
    // Any address of this machine serves as the gateway; 192.0.2.1 is nobody's.
    assert_eq!(own_address(&published_behind("127.0.0.1")), Some("172.17.0.2:8080".parse().unwrap()));
    assert_eq!(own_address(&published_behind("192.0.2.1")), None);
}

#[test]
fn a_container_that_has_lost_its_published_port_has_no_address() {
    let settings = NetworkSettings { networks: Some(bridge("", "")), ..NetworkSettings::default() };
    assert_eq!(address(&inspected(on_host(&plain()), settings), HERE), None);
}

#[test]
fn an_address_is_else_the_containers_own_or_the_hosts() {
    let mut spec = plain();
    spec.address = Reach::Container;
    let settings =
        NetworkSettings { networks: Some(bridge("172.17.0.2", "172.17.0.1")), ..NetworkSettings::default() };
    let seen = address(&inspected(on_host(&spec), settings.clone()), HERE);
    assert_eq!(seen, Some("172.17.0.2:8080".parse().unwrap()));
    spec.address = Reach::Host;
    let seen = address(&inspected(on_host(&spec), settings), HERE);
    assert_eq!(seen, Some("127.0.0.1:8080".parse().unwrap()));
}
