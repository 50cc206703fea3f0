//! The OpenAPI document of the job API. Its text stands in `openapi.json`, for the path that jobs have by default.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use crate::gateway::body::ResponseBody;

const DOCUMENT: &str = include_str!("openapi.json");

/// Where the paths of the document begin.
const ROOT: &str = "\"/_jobs";

/// The document, for jobs that are found below `path`.
pub(super) fn document(path: &str) -> Response<ResponseBody> {
    let text = DOCUMENT.replace(ROOT, &format!("\"{path}")).replace("0.0.0", env!("CARGO_PKG_VERSION"));
    let mut response = Response::new(ResponseBody::from(Bytes::from(text)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::DOCUMENT;

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let (mut open, mut seen) = (vec![&document], 0);
        while let Some(value) = open.pop() {
            match value {
                Value::Object(object) => {
                    if let Some(Value::String(place)) = object.get("$ref") {
                        seen += 1;
                        assert!(document.pointer(place.trim_start_matches('#')).is_some(), "{place}");
                    }
                    open.extend(object.values());
                }
                Value::Array(array) => open.extend(array),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        assert!(seen > 20, "{seen} references");
    }
}
