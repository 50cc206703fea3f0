//! Reads the document: the sections outside `[services]`, and each service through `service_table`.

use std::path::Path;

use toml::de::DeTable;

use super::diagnostics::{Diagnostic, Diagnostics, Places as Files};
use super::keys::ApiKeys;
use super::listeners::{self, Places};
use super::reader::{Reader, Table};
use super::service_table::{self, Placed};
use super::value::Value;
use super::{
    AdminConfig, BackendConfig, BackendKind, Config, Network, ProxyConfig, across, http2, limits, values,
};
use crate::telemetry::{Collector, Telemetry};

/// What a text says, and where it names files.
pub(super) fn parse(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Files), Diagnostics> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let list = errors.iter().map(syntax_error).collect();
        return Err(Diagnostics::new(name, text, list));
    }
    let folder = Path::new(name).parent().unwrap_or(Path::new("")).to_owned();
    let reader = Reader::new(text, folder, env);
    let config = read(&reader, document.get_ref());
    match reader.found() {
        (found, files) if found.is_empty() => Ok((config, files)),
        (found, _) => Err(Diagnostics::new(name, text, found)),
    }
}

fn syntax_error(error: &toml::de::Error) -> Diagnostic {
    let mut lines = error.message().lines();
    let message = lines.next().unwrap_or("not TOML").to_owned();
    let label = lines.collect::<Vec<_>>().join(", ");
    match error.span() {
        Some(span) => Diagnostic::new(span, message).label(label),
        None => Diagnostic::whole(message),
    }
}

fn read<'a>(reader: &'a Reader<'a>, document: &'a DeTable<'a>) -> Config {
    let mut root = reader.root(document);
    let mut name = "default".to_owned();
    root.set("name", &mut name, |value| value.parsed(|text| values::name(text).map(|()| text.to_owned())));
    let (mut proxy, mut admin, mut backend) =
        (ProxyConfig::default(), AdminConfig::default(), BackendConfig::default());
    let mut places = Places::default();
    root.below("proxy", |table| places = read_proxy(table, &mut proxy));
    let listen = admin_listen(&mut root, &mut admin);
    root.below("backend", |table| table.set("kind", &mut backend.kind, kind));
    let mut jobs = super::jobs::default(reader);
    root.below("jobs", |table| super::jobs::read(table, &mut jobs));
    let mut telemetry = Telemetry::default();
    root.below("telemetry", |table| read_telemetry(table, &mut telemetry));
    listeners::differ(reader, &proxy, &places, &admin, listen.as_ref());
    let services = read_services(&mut root);
    root.finish();
    Config { name, proxy, admin, backend, jobs, telemetry, services }
}

fn read_proxy<'a>(table: &mut Table<'a>, out: &mut ProxyConfig) -> Places<'a> {
    let places = listeners::read(table, out);
    table.set("request_header_timeout", &mut out.request_header_timeout, Value::timeout);
    table.set("idle_timeout", &mut out.idle_timeout, Value::timeout);
    table.set("half_close", &mut out.half_close, Value::boolean);
    table.set("drain", &mut out.drain, Value::duration);
    table.set("max_body", &mut out.max_body, Value::bytes);
    table.set("memory_per_body", &mut out.memory_per_body, Value::bytes);
    table.set("model_head", &mut out.model_head, Value::bytes);
    table.set("forwarded", &mut out.forwarded, Value::boolean);
    table.set("trace", &mut out.trace, Value::boolean);
    table.set("trusted", &mut out.trusted, |value| {
        value.list("an array of networks such as [\"10.0.0.0/8\"]", |one| one.parsed(Network::parse))
    });
    table.below("limits", |table| limits::read(table, &mut out.limits));
    table.below("http2", |table| http2::read(table, &mut out.http2));
    let reader = table.reader;
    let keys = |value: &Value<'_>| reader.file(value).map(|file| ApiKeys { file, list: Vec::new() });
    table.set_some("api_keys_file", &mut out.api_keys, keys);
    table.set("forward_api_key", &mut out.forward_api_key, Value::boolean);
    places
}

fn kind(value: &Value<'_>) -> Option<BackendKind> {
    value.word(&[
        ("auto", BackendKind::Auto),
        ("docker", BackendKind::Docker),
        ("process", BackendKind::Process),
    ])
}

/// Reads `[admin]`; gives back the value of `listen`, for messages about it.
fn admin_listen<'a>(root: &mut Table<'a>, out: &mut AdminConfig) -> Option<Value<'a>> {
    let mut listen = None;
    root.below("admin", |table| {
        listen = table.take("listen");
        if let Some(address) = listen.as_ref().and_then(|value| value.parsed(values::address)) {
            out.listen = address;
        }
        let file = table.take("token_file");
        out.token_file = file.as_ref().and_then(|value| table.reader.file(value));
        if let (false, None, Some(value)) = (out.listen.ip().is_loopback(), &file, &listen) {
            let message =
                format!("{} can be reached from elsewhere: `admin.token_file` is required", out.listen);
            let help = "write `token_file = \"admin.token\"` below, or listen on 127.0.0.1";
            table.reader.report(Diagnostic::new(value.span.clone(), message).help(help));
        }
    });
    listen
}

fn read_telemetry(table: &mut Table<'_>, out: &mut Telemetry) {
    table.set_some("otlp", &mut out.collector, |value| value.parsed(Collector::at));
    table.set("sample", &mut out.sample, Value::part);
    table.set("service_name", &mut out.service_name, Value::string);
    out.ca = table.take("ca").as_ref().and_then(|value| table.reader.file(value));
}

fn read_services(root: &mut Table<'_>) -> Vec<super::Service> {
    let mut placed: Vec<Placed> = Vec::new();
    let entries = match root.take("services") {
        Some(value) => value.table().map(|mut table| table.drain()),
        None => Some(Vec::new()),
    };
    match entries {
        Some(entries) if entries.is_empty() => root.reader.report(no_service()),
        Some(entries) => placed.extend(entries.iter().filter_map(service_table::read)),
        // Not a table, which is reported already.
        None => {}
    }
    across::check(root.reader, &mut placed);
    placed.into_iter().map(|placed| placed.service).collect()
}

fn no_service() -> Diagnostic {
    Diagnostic::whole("the file describes no service")
        .help("add one: [services.NAME] with `image = \"…\"` or `addresses = [\"HOST:PORT\"]`")
}
