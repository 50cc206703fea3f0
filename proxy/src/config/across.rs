//! What must hold between services: no two have a host, a path, a model or the default in common.

use std::collections::BTreeMap;
use std::ops::Range;

use super::diagnostics::Diagnostic;
use super::reader::Reader;
use super::service_table::Placed;

/// Reports every clash, both places shown, and makes the only service the default unless it says otherwise.
pub(super) fn check(reader: &Reader<'_>, services: &mut [Placed]) {
    if let [only] = services {
        only.service.default = only.default_at.is_none() || only.service.default;
    }
    unique(reader, "host", services, |service| &service.hosts);
    unique(reader, "path", services, |service| &service.paths);
    unique(reader, "model", services, |service| &service.models);
    one_default(reader, services);
}

/// A text of a service and where it stands.
type Placing = (String, Range<usize>);

fn unique(reader: &Reader<'_>, what: &str, services: &[Placed], of: impl Fn(&Placed) -> &Vec<Placing>) {
    let mut seen: BTreeMap<&str, (&Placed, &Range<usize>)> = BTreeMap::new();
    for service in services {
        for (text, span) in of(service) {
            if let Some((first, place)) = seen.get(text.as_str()) {
                let message = match first.service.name == service.service.name {
                    true => format!("service `{}` has the {what} {text:?} twice", first.service.name),
                    false => format!(
                        "services `{}` and `{}` both have the {what} {text:?}",
                        first.service.name, service.service.name
                    ),
                };
                let diagnostic = Diagnostic::new(span.clone(), message).label("again here");
                reader.report(diagnostic.also((*place).clone(), "first here"));
            } else {
                seen.insert(text, (service, span));
            }
        }
    }
}

fn one_default(reader: &Reader<'_>, services: &[Placed]) {
    let mut defaults = services.iter().filter(|service| service.service.default);
    let Some((first, place)) = defaults.next().and_then(|one| Some((one, one.default_at.clone()?))) else {
        return;
    };
    for (other, span) in defaults.filter_map(|one| Some((one, one.default_at.clone()?))) {
        let message = format!(
            "services `{}` and `{}` are both the default: only one can get what no rule matches",
            first.service.name, other.service.name
        );
        reader.report(Diagnostic::new(span, message).label("again here").also(place.clone(), "first here"));
    }
}
