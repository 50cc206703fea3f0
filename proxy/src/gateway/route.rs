//! Which service a request is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Uri};

use super::by_model::{Unrouted, may_name_model};
use super::models::Models;
use super::service::Service;
use crate::problem::Problem;

/// Names the service, whatever else the request says.
pub const LONGSHORE_SERVICE: HeaderName = HeaderName::from_static("longshore-service");

/// Where the services are listed, unless a service has that path.
const SERVICES: &str = "/_services";

/// The rules, in force until the next configuration.
pub struct Routes {
    services: BTreeMap<Arc<str>, Arc<Service>>,
    hosts: BTreeMap<String, Arc<Service>>,
    /// Longest first.
    prefixes: Vec<(String, Arc<Service>)>,
    default: Option<Arc<Service>>,
    /// Where any service has models.
    models: Option<Models>,
}

/// Whose a request is.
pub enum Choice<'a> {
    /// A service's.
    Service(Route<'a>),
    /// That of the service which has the model that its body names.
    ByModel,
    /// Longshore's own: this JSON is the answer.
    Own(Bytes),
}

/// A service and how it was found.
pub struct Route<'a> {
    /// The service.
    pub service: &'a Arc<Service>,
    /// The path prefix that matched and is to be taken off.
    pub strip: Option<&'a str>,
}

impl Routes {
    /// The rules of these services, which their configuration has made unambiguous.
    pub fn new(services: &[Arc<Service>]) -> Self {
        let mut routes = Self {
            services: BTreeMap::new(),
            hosts: BTreeMap::new(),
            prefixes: Vec::new(),
            default: None,
            models: Models::of(services),
        };
        for service in services {
            routes.services.insert(service.name.clone(), service.clone());
            for host in &service.config.hosts {
                routes.hosts.insert(host.clone(), service.clone());
            }
            for prefix in &service.config.paths {
                routes.prefixes.push((prefix.clone(), service.clone()));
            }
            if service.config.default {
                routes.default = Some(service.clone());
            }
        }
        routes.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        routes
    }

    /// By name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// All, by name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Chooses the service of a request:
    ///
    /// 1. the one that the header `Longshore-Service` names, which must exist;
    /// 2. the one that has the host, from an absolute-form target, `:authority` or `Host`, without its port;
    /// 3. the one with the longest path prefix;
    /// 4. none, where the services or their models are asked for;
    /// 5. the one that has the model which a JSON body names;
    /// 6. the default service.
    pub fn choose(&self, parts: &Parts, host: Option<&str>) -> Result<Choice<'_>, Problem> {
        let Parts { uri, headers, .. } = parts;
        // 1.
        if let Some(name) = headers.get(&LONGSHORE_SERVICE) {
            let name = name.to_str().unwrap_or_default().trim();
            let service =
                self.services.get(name).ok_or_else(|| self.none(&format!("no service is named {name:?}")))?;
            return Ok(Choice::Service(self.found(service, uri)));
        }
        // 2.
        if let Some(service) = host.and_then(|host| self.host(host)) {
            return Ok(Choice::Service(self.found(service, uri)));
        }
        // 3.
        if let Some((prefix, service)) =
            self.prefixes.iter().find(|(prefix, _)| is_prefix(prefix, uri.path()))
        {
            let strip = service.config.strip_prefix.then_some(prefix.as_str());
            return Ok(Choice::Service(Route { service, strip }));
        }
        // 4.
        let is_asking = matches!(parts.method, Method::GET | Method::HEAD);
        if is_asking && uri.path() == SERVICES {
            return Err(self.none("this is no service's path"));
        }
        if let Some(models) = &self.models {
            if let Some(answer) = models.answer(uri.path()).filter(|_| is_asking) {
                return Ok(Choice::Own(answer));
            }
            // 5.
            if may_name_model(&parts.method, headers) {
                return Ok(Choice::ByModel);
            }
        }
        // 6.
        match &self.default {
            Some(service) => Ok(Choice::Service(Route { service, strip: None })),
            None => Err(self.none("neither host nor path belongs to a service, and none is the default")),
        }
    }

    /// What becomes of a request until its model is known, where services have any.
    pub fn unrouted(&self) -> Option<&Unrouted> {
        self.models.as_ref().map(Models::unrouted)
    }

    /// The service that has a model, else the default one.
    pub fn with_model(&self, name: Option<&str>) -> Result<&Arc<Service>, Problem> {
        let having = name.and_then(|name| self.models.as_ref()?.service(name));
        having.or(self.default.as_ref()).ok_or_else(|| match name {
            Some(name) => self.none(&format!("no service has the model {name:?}, and none is the default")),
            None => self.none("the body names no model, and no service is the default"),
        })
    }

    fn found<'a>(&'a self, service: &'a Arc<Service>, uri: &Uri) -> Route<'a> {
        let strip = if service.config.strip_prefix {
            let mut prefixes = self.prefixes.iter().filter(|(_, of)| Arc::ptr_eq(of, service));
            prefixes.find(|(prefix, _)| is_prefix(prefix, uri.path())).map(|(prefix, _)| prefix.as_str())
        } else {
            None
        };
        Route { service, strip }
    }

    fn host(&self, host: &str) -> Option<&Arc<Service>> {
        let name = without_port(host);
        match self.hosts.get(name) {
            Some(service) => Some(service),
            None if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                self.hosts.get(&name.to_ascii_lowercase())
            }
            None => None,
        }
    }

    fn none(&self, why: &str) -> Problem {
        let names: Vec<&str> = self.services.keys().map(AsRef::as_ref).collect();
        let detail = format!("{why}; the services are: {}", names.join(", "));
        Problem::NoService(detail, self.services.keys().cloned().collect())
    }
}

/// Whether `path` is `prefix` or lies below it.
fn is_prefix(prefix: &str, path: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `host:port` without the port; an IPv6 address keeps its brackets. A final dot (the DNS root) goes too.
fn without_port(host: &str) -> &str {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        Some(_) | None => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// What was stripped of a path for an instance to see `target`; nothing if it sees all of it.
pub fn stripped(uri: &Uri, target: &Uri) -> Option<HeaderValue> {
    let prefix = uri.path().strip_suffix(target.path()).unwrap_or(uri.path());
    HeaderValue::from_str(prefix).ok().filter(|prefix| !prefix.is_empty())
}

/// The path and query that an instance sees.
pub fn target(uri: &Uri, strip: Option<&str>) -> Uri {
    let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
    let rest = strip.filter(|prefix| *prefix != "/").and_then(|prefix| path_and_query.strip_prefix(prefix));
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = match rest {
        Some(rest) if rest.starts_with('/') => rest.parse().ok(),
        Some(rest) => format!("/{rest}").parse().ok(),
        // What is before a fragment may be nothing at all (`http://calc#x`): as text it is "/", as part of a target nothing.
        None => uri.path_and_query().filter(|path| path.as_str() != "/").cloned(),
    };
    if parts.path_and_query.is_none() {
        return Uri::from_static("/");
    }
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::{is_prefix, target, without_port};

    #[test]
    fn nothing_before_a_fragment_is_the_root() {
        let uri = "http://calc#x".parse().unwrap();
        assert_eq!(target(&uri, None).to_string(), "/");
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for (prefix, path, matches) in [
            ("/", "/anything", true),
            ("/api", "/api", true),
            ("/api", "/api/x", true),
            ("/api", "/apix", false),
            ("/api", "/", false),
        ] {
            assert_eq!(is_prefix(prefix, path), matches, "{prefix} {path}");
        }
    }

    #[test]
    fn a_host_is_known_without_its_port() {
        for (host, name) in [
            ("calc", "calc"),
            ("calc:5000", "calc"),
            ("calc.localhost.:80", "calc.localhost"),
            ("[::1]:5000", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn an_instance_sees_the_origin_form_without_the_prefix() {
        for (uri, strip, seen) in [
            ("http://calc/add/3/4?x=1", None, "/add/3/4?x=1"),
            ("http://calc", None, "/"),
            ("/api/x?q", Some("/api"), "/x?q"),
            ("/api", Some("/api"), "/"),
            ("/api?q=1", Some("/api"), "/?q=1"),
            ("*", None, "*"),
        ] {
            let uri: http::Uri = uri.parse().unwrap();
            let target = target(&uri, strip);
            assert_eq!(target.to_string(), seen);
            let told = super::stripped(&uri, &target).map(|prefix| prefix.to_str().unwrap().to_owned());
            let taken = strip.filter(|prefix| *prefix != "/" && uri.path().starts_with(prefix));
            assert_eq!(told.as_deref(), taken, "{uri}");
        }
    }
}
