//! Reads `[services.NAME]`: where it is reached, its size and times. What it runs, and the tables below it, are read by
//! `service_parts`.

use std::net::SocketAddr;
use std::ops::Range;

use super::diagnostics::Diagnostic;
use super::reader::Table;
use super::service::{Protocol, Service, Source, default_spec};
use super::size::ServiceSize;
use super::value::Value;
use super::{service_parts, size, values};

/// A service with the places of what may clash with another one.
pub(super) struct Placed {
    pub(super) service: Service,
    pub(super) hosts: Vec<(String, Range<usize>)>,
    pub(super) paths: Vec<(String, Range<usize>)>,
    pub(super) models: Vec<(String, Range<usize>)>,
    /// Where `default` stands.
    pub(super) default_at: Option<Range<usize>>,
}

pub(super) fn read(value: &Value<'_>) -> Option<Placed> {
    if let Err(allowed) = values::name(value.name) {
        let message = format!("{:?} cannot be the name of a service", value.name);
        value.reader.report(Diagnostic::new(value.key.clone(), message).label(allowed));
    }
    let mut table = value.named_table()?;
    let placed = read_service(value.name, &mut table);
    table.finish();
    Some(placed)
}

fn read_service(name: &str, table: &mut Table<'_>) -> Placed {
    let source = read_source(table);
    let mut service = Service::new(name, source);
    let own = service.hosts.drain(..).map(|host| (host, table.key.clone())).collect();
    let hosts = placed_list(table, "hosts", values::host).unwrap_or(own);
    let paths = placed_list(table, "paths", values::prefix).unwrap_or_default();
    let models = placed_list(table, "models", values::model).unwrap_or_default();
    service.models = models.iter().map(|(model, _)| model.clone()).collect();
    service.hosts = hosts.iter().map(|(host, _)| host.clone()).collect();
    service.paths = paths.iter().map(|(path, _)| path.clone()).collect();
    table.set("strip_prefix", &mut service.strip_prefix, Value::boolean);
    let default = table.take("default");
    service.default = default.as_ref().and_then(Value::boolean).unwrap_or(false);
    let protocols = [("h1", Protocol::H1), ("h2c", Protocol::H2c)];
    table.set("protocol", &mut service.protocol, |value| value.word(&protocols));
    read_size(table, &mut service);
    table.set("concurrency", &mut service.concurrency, |value| value.integer(0..=1_000_000));
    table.set("timeout", &mut service.timeout, Value::timeout);
    table.set_some("first_byte_timeout", &mut service.first_byte_timeout, Value::timeout);
    table.set("stop_grace", &mut service.stop_grace, Value::duration);
    service_parts::read(table, &mut service);
    Placed { service, hosts, paths, models, default_at: default.map(|value| value.span) }
}

/// A list whose elements remember their places.
fn placed_list(
    table: &mut Table<'_>,
    key: &'static str,
    read: fn(&str) -> Result<String, String>,
) -> Option<Vec<(String, Range<usize>)>> {
    let value = table.take(key)?;
    value.list("an array of strings", |element| Some((element.parsed(read)?, element.span.clone())))
}

/// `size`; the addresses of servers that already run are at most as many as are listed.
fn read_size(table: &mut Table<'_>, service: &mut Service) {
    if service.on_the_host() {
        service.size.max = 1;
    }
    let Some(value) = table.take("size") else { return };
    let Some(asked) = size::read(&value) else { return };
    match &service.source {
        Source::Image { spec } => {
            let one = service.on_the_host();
            if one && (asked.standby > 0 || asked.number().unwrap_or(asked.max) > 1) {
                let message = "with `address = \"host\"` a second instance would want the port of the first";
                let help = format!(
                    "write `size = 1`, or `max = 1` beside a policy, or reach the instances by an address of their own: \
                     every one of them listens on port {} of this machine",
                    spec.port
                );
                table.reader.report(Diagnostic::new(value.span.clone(), message).help(help));
            }
            let max = if one { asked.max.min(1) } else { asked.max };
            service.size = ServiceSize { max, min: asked.min.min(max), ..asked };
        }
        Source::Addresses(addresses) => {
            let most = service.size.max;
            match asked.number() {
                Some(size) if size > most => {
                    let message = format!("`{}` is {size}, of {} addresses", value.path(), addresses.len());
                    value.reject::<()>(message);
                }
                Some(_) => {}
                None => {
                    let message =
                        "servers that already run are neither started nor stopped: their size is a number";
                    value.reject::<()>(message);
                }
            }
            if asked.standby > 0 {
                let message =
                    "servers that already run are not started or paused: there is no `standby` of them";
                value.reject::<()>(message);
            }
            service.size = ServiceSize { max: asked.max.min(most), standby: 0, ..asked };
        }
    }
}

/// `image` or `addresses`, one of them, and what belongs to it.
fn read_source(table: &mut Table<'_>) -> Source {
    let (image, addresses) = (table.take("image"), table.take("addresses"));
    match (&image, &addresses) {
        (Some(_), None) => {}
        (None, Some(value)) => return read_addresses(table, value),
        (Some(image), Some(addresses)) => {
            let message = "a service has `image` or `addresses`, not both";
            let diagnostic = Diagnostic::new(addresses.key.clone(), message);
            table.reader.report(diagnostic.also(image.key.clone(), "its image"));
        }
        (None, None) => {
            let message = "the service has neither `image` nor `addresses`";
            let help = "`image` is what to start; `addresses` are servers that already run";
            table.reader.report(Diagnostic::new(table.key.clone(), message).help(help));
        }
    }
    let mut spec = default_spec("");
    if let Some(image) = image {
        spec.image = image.parsed(image_reference).unwrap_or_default();
    }
    service_parts::read_spec(table, &mut spec);
    Source::Image { spec }
}

fn image_reference(text: &str) -> Result<String, String> {
    let right = !text.is_empty() && !text.starts_with('-') && text.chars().all(|c| c.is_ascii_graphic());
    if right {
        Ok(text.to_owned())
    } else {
        Err("an image is a reference such as `registry/name:tag`".into())
    }
}

fn read_addresses(table: &mut Table<'_>, value: &Value<'_>) -> Source {
    let mut out: Vec<SocketAddr> = Vec::new();
    for element in value.array("an array of addresses such as [\"127.0.0.1:8080\"]").unwrap_or_default() {
        let Some(address) = element.parsed(values::address) else { continue };
        if address.port() == 0 {
            element.reject::<()>(format!("{address}: port 0 is no server's"));
        } else if out.contains(&address) {
            element.reject::<()>(format!("{address} is listed twice"));
        }
        out.push(address);
    }
    if value.array("").is_some_and(|elements| elements.is_empty()) {
        value.reject::<()>(format!("`{}` is empty", value.path()));
    }
    for key in service_parts::SPEC_KEYS {
        if let Some(value) = table.take(key) {
            let message =
                format!("`{key}` is for what Longshore starts; `addresses` are servers that already run");
            table.reader.report(Diagnostic::new(value.key, message));
        }
    }
    Source::Addresses(out)
}
