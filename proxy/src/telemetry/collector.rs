//! Where the collector is: by `[telemetry]`, and before that by the variables that OpenTelemetry has for it.

use std::path::PathBuf;

use crate::http_client::{Server, Trust};

/// Where OTLP takes traces, below its address.
const TRACES: &str = "/v1/traces";

/// `[telemetry]`, with the environment's word in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Who gets the spans; without it nothing is recorded.
    pub collector: Option<Collector>,
    /// Which part of the traces that begin here is marked as sampled, from 0 to 1.
    pub sample: f64,
    /// Who the spans are of.
    pub service_name: String,
    /// A PEM file of the authorities that are believed about who the collector is; else those of the system.
    pub ca: Option<PathBuf>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { collector: None, sample: 1.0, service_name: "longshore".to_owned(), ca: None }
    }
}

/// Where spans are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    url: String,
    server: Server,
    path: String,
    headers: Vec<(String, String)>,
}

impl Collector {
    /// By the address that OTLP of all kinds is taken at, `http://127.0.0.1:4318` or `https://…`.
    pub fn at(url: &str) -> Result<Self, String> {
        Self::new(url, TRACES)
    }

    fn new(url: &str, path: &str) -> Result<Self, String> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err("a collector is reached by http:// or https://".into());
        }
        let server = Server::parse(url)?;
        Ok(Self { url: url.to_owned(), path: server.path(path), server, headers: Vec::new() })
    }

    /// As it was written.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The path that spans are posted to.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Fields that it wants to see.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// How to reach it.
    pub(super) const fn server(&self) -> &Server {
        &self.server
    }
}

impl Telemetry {
    /// Whom to believe about who the collector is, if not the system's authorities.
    pub(super) fn trust(&self) -> Result<Option<Trust>, String> {
        self.ca.as_deref().map(Trust::of_file).transpose()
    }

    /// What is wrong with the file of authorities, if there is one.
    pub fn check(&self) -> Result<(), String> {
        self.trust().map(drop)
    }

    /// The same with what the environment says, which comes before the file:
    ///
    /// 1. `OTEL_SDK_DISABLED` or `OTEL_TRACES_EXPORTER=none`: nothing is recorded;
    /// 2. `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`: where spans are posted to, else `OTEL_EXPORTER_OTLP_ENDPOINT`, below
    ///    which `/v1/traces` is;
    /// 3. `OTEL_EXPORTER_OTLP_HEADERS`: fields that the collector wants;
    /// 4. `OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE`, else `OTEL_EXPORTER_OTLP_CERTIFICATE`: whom to believe about who it is;
    /// 5. `OTEL_SERVICE_NAME`.
    ///
    /// A variable that says nothing useful is told of in the log, and is as if it were not there: it may be meant for
    /// others.
    #[must_use]
    pub fn within(mut self, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let said = |name: &str| env(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        // 1.
        let is_off = said("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
            || said("OTEL_TRACES_EXPORTER").is_some_and(|text| text.eq_ignore_ascii_case("none"));
        if is_off {
            self.collector = None;
            return self;
        }
        // 2.
        let variables = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""), ("OTEL_EXPORTER_OTLP_ENDPOINT", TRACES)];
        if let Some((name, path, url)) =
            variables.into_iter().find_map(|(name, path)| Some((name, path, said(name)?)))
        {
            match Collector::new(&url, path) {
                Ok(collector) => self.collector = Some(collector),
                Err(why) => tracing::warn!(url, why, "{name} is of no use for traces"),
            }
        }
        // 3.
        if let (Some(collector), Some(fields)) = (&mut self.collector, said("OTEL_EXPORTER_OTLP_HEADERS")) {
            let pairs = fields.split(',').filter_map(|pair| pair.split_once('='));
            collector.headers =
                pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        }
        // 4.
        let variables = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
        if let Some(file) = variables.into_iter().find_map(said).map(PathBuf::from) {
            match Trust::of_file(&file) {
                Ok(_) => self.ca = Some(file),
                Err(why) => tracing::warn!(why, "a variable of OpenTelemetry is of no use"),
            }
        }
        // 5.
        self.service_name = said("OTEL_SERVICE_NAME").unwrap_or(self.service_name);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(file: Option<&str>, variables: &[(&str, &str)]) -> (Option<String>, Telemetry) {
        let collector = file.map(|url| Collector::at(url).unwrap());
        let told = Telemetry { collector, ..Telemetry::default() }.within(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        let shown = |one: &Collector| format!("{}{}", one.server.authority(), one.path);
        (told.collector.as_ref().map(shown), told)
    }

    #[test]
    fn the_environment_comes_before_the_file() {
        let (file, base, exact) =
            ("http://file:4318", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        type Case = (Option<&'static str>, Vec<(&'static str, &'static str)>, Option<&'static str>);
        let cases: [Case; 10] = [
            (None, vec![], None),
            (Some(file), vec![], Some("file:4318/v1/traces")),
            (None, vec![(base, "http://env:1/otlp/")], Some("env:1/otlp/v1/traces")),
            (Some(file), vec![(base, "http://env:1")], Some("env:1/v1/traces")),
            (Some(file), vec![(base, "http://env:1"), (exact, "http://env:2/t")], Some("env:2/t")),
            (Some(file), vec![(base, "https://env")], Some("env:443/v1/traces")),
            (Some(file), vec![(base, "grpc://env:1")], Some("file:4318/v1/traces")),
            (Some(file), vec![(base, " ")], Some("file:4318/v1/traces")),
            (Some(file), vec![("OTEL_SDK_DISABLED", "TRUE")], None),
            (Some(file), vec![("OTEL_TRACES_EXPORTER", "none")], None),
        ];
        for (file, variables, expected) in cases {
            assert_eq!(within(file, &variables).0.as_deref(), expected, "{variables:?}");
        }
        let (_, told) = within(
            Some(file),
            &[("OTEL_SERVICE_NAME", "edge"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=b, key = v=w")],
        );
        assert_eq!(told.service_name, "edge");
        let fields = [("a", "b"), ("key", "v=w")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(told.collector.unwrap().headers(), fields);
    }
}
