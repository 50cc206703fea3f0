//! Any request is answered with what arrived, as JSON.

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::{Input, Reply, body_json};

/// Method, path, query, version, fields in their order, body.
pub(crate) fn answer(input: &Input) -> Reply {
    let head = &input.head;
    Reply::json(&json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "authority": head.uri.authority().map(|authority| authority.as_str()),
        "version": format!("{:?}", head.version),
        "headers": pairs(&head.headers),
        "body": body_json(&input.body),
        "trailers": pairs(&input.trailers),
    }))
}

fn pairs(headers: &HeaderMap) -> Vec<Value> {
    headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect()
}
