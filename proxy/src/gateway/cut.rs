//! Answers that are cut in their client's sight because their instance has gone: counted, told, and what to do about it.

use http::HeaderValue;
use longshore_pool::Revoked;

use super::connections::Link;
use super::ids::plain;
use super::service::Service;

/// An answer that had begun, or an upgraded connection, ends with its instance. `seen` is what of that was seen.
pub fn report(service: &Service, link: &Link, request_id: &HeaderValue, seen: &str) {
    let (name, instance) = (&service.name, link.name());
    let why = match link.revoked() {
        Some(Revoked::Drained) => {
            service.metrics.lost();
            let grace = humantime::format_duration(service.config.stop_grace);
            let why = format!(
                "its instance was to go, and stop_grace ({grace}) was over: raise services.{name}.stop_grace for longer \
                 streams, or let them go on elsewhere by replay.resume = true"
            );
            tracing::warn!(
             service = %name, instance = %plain(instance), request_id = %plain(request_id),
             "an open stream is cut: {why}"
            );
            why
        }
        // How many they are has been said.
        Some(Revoked::Cut) => "longshore is shutting down".to_owned(),
        Some(Revoked::Lost) | None => {
            service.metrics.lost();
            tracing::warn!(
                service = %name, instance = %plain(instance), request_id = %plain(request_id), error = seen,
                "an instance broke off its answer after its first byte had left: the request is lost"
            );
            format!("the instance broke off in the middle of its answer: {}", link.fate().unwrap_or(seen))
        }
    };
    service.events.cut(request_id, Some(instance), why);
}
