//! The forms of `size`: in cluster.toml, and over the admin API.

use serde_json::Value as Json;

use super::reader::Table;
use super::service::ServiceSize;
use super::value::Value;

/// The most instances that a service may have.
pub const MAX_SIZE: u32 = 1_000;

/// A size that somebody asked for and cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SizeError {
    /// Where in the size the mistake is, as a JSON pointer (RFC 6901) relative to it: empty for the whole.
    pub pointer: String,
    /// What is allowed and what was asked for.
    pub message: String,
}

/// The size that a JSON value of the admin API means: an integer, or `{"policy": "fixed", "size": N}`.
///
/// The bounds of the service are not looked at.
pub fn parse_size(value: &Json) -> Result<u32, SizeError> {
    match value {
        Json::Object(object) => parse_policy(object),
        Json::Number(_) | Json::String(_) | Json::Null | Json::Bool(_) | Json::Array(_) => integer("", value),
    }
}

fn integer(pointer: &str, value: &Json) -> Result<u32, SizeError> {
    if let Some(size) =
        value.as_u64().and_then(|size| u32::try_from(size).ok()).filter(|size| *size <= MAX_SIZE)
    {
        return Ok(size);
    }
    let hint = if value.is_string() { " (expressions are not available in this version)" } else { "" };
    let message = format!("size must be an integer from 0 to {MAX_SIZE}, got {}{hint}", shortened(value));
    Err(SizeError { pointer: pointer.to_owned(), message })
}

fn parse_policy(object: &serde_json::Map<String, Json>) -> Result<u32, SizeError> {
    let error = |pointer: &str, message: String| SizeError { pointer: pointer.to_owned(), message };
    let policy = object.get("policy").ok_or_else(|| {
        error("", r#"size must be an integer or {"policy": "fixed", "size": N}; "policy" is missing"#.into())
    })?;
    if policy.as_str() != Some("fixed") {
        let policy = shortened(policy);
        return Err(error(
            "/policy",
            format!(r#"policy must be "fixed", the only one of this version, got {policy}"#),
        ));
    }
    if let Some(key) = object.keys().find(|key| !matches!(key.as_str(), "policy" | "size")) {
        let pointer = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
        return Err(error(
            &pointer,
            format!("unknown key {key:?}: a fixed size has \"policy\" and \"size\""),
        ));
    }
    let size = object.get("size").ok_or_else(|| {
        error("", r#"a fixed size needs "size", such as {"policy": "fixed", "size": 3}"#.into())
    })?;
    integer("/size", size)
}

/// What was sent, as JSON, cut where it is long.
fn shortened(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `size` of cluster.toml.
pub(super) fn read(value: &Value<'_>) -> Option<ServiceSize> {
    if value.is_table() {
        let mut table = value.table()?;
        let size = fixed(&mut table);
        table.finish();
        return size;
    }
    if value.is_string() {
        return value.reject(format!(
            "`{}` as an expression is not available in this version: write an integer from 0 to {MAX_SIZE}",
            value.path()
        ));
    }
    Some(ServiceSize { size: value.integer(0..=MAX_SIZE)?, ..ServiceSize::default() })
}

/// `{ policy = "fixed", size = N, min = …, max = … }`.
fn fixed(table: &mut Table<'_>) -> Option<ServiceSize> {
    let mut out = ServiceSize::default();
    table.set("min", &mut out.min, |value| value.integer(0..=MAX_SIZE));
    let max = table.take("max");
    if let Some(most) = max.as_ref().and_then(|value| value.integer(0..=MAX_SIZE)) {
        out.max = most;
    }
    out.size = out.size.clamp(out.min, out.max.max(out.min));
    let policy = table.take("policy");
    let size = table.take("size");
    if policy.as_ref().is_some_and(|value| value.word(&[("fixed", ())]).is_none()) {
        // Its other keys belong to a policy that is not there: a message for each would say nothing more.
        table.drain();
        return None;
    }
    if let Some(max) = max.filter(|_| out.min > out.max) {
        return max.reject(format!("`max` is {} and below `min`, which is {}", out.max, out.min));
    }
    if let Some(value) = size {
        out.size = value.integer(0..=MAX_SIZE)?;
        if !(out.min..=out.max).contains(&out.size) {
            return value.reject(format!(
                "`size` is {} and not within `min` and `max`, which are {} and {}",
                out.size, out.min, out.max
            ));
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_api_takes_an_integer_or_a_fixed_policy() {
        assert_eq!(parse_size(&json!(0)), Ok(0));
        assert_eq!(parse_size(&json!(1000)), Ok(1_000));
        assert_eq!(parse_size(&json!({"policy": "fixed", "size": 4})), Ok(4));
    }

    #[test]
    fn a_wrong_size_is_told_what_is_allowed_and_what_was_sent() {
        let cases = [
            (json!(-1), "", "size must be an integer from 0 to 1000, got -1"),
            (json!(1e9), "", "size must be an integer from 0 to 1000, got 1000000000.0"),
            (json!(1001), "", "size must be an integer from 0 to 1000, got 1001"),
            (json!(u64::MAX), "", "size must be an integer from 0 to 1000, got 18446744073709551615"),
            (
                json!("x"),
                "",
                "size must be an integer from 0 to 1000, got \"x\" (expressions are not available in this version)",
            ),
            (json!(2.5), "", "size must be an integer from 0 to 1000, got 2.5"),
            (json!(null), "", "size must be an integer from 0 to 1000, got null"),
            (json!([1]), "", "size must be an integer from 0 to 1000, got [1]"),
            (json!({"policy": "fixed", "size": -2}), "/size", "from 0 to 1000, got -2"),
            (
                json!({"policy": "queue"}),
                "/policy",
                "must be \"fixed\", the only one of this version, got \"queue\"",
            ),
            (json!({"size": 2}), "", "\"policy\" is missing"),
            (json!({"policy": "fixed"}), "", "needs \"size\""),
            (json!({"policy": "fixed", "size": 1, "a/b": 1}), "/a~1b", "unknown key \"a/b\""),
        ];
        for (value, pointer, message) in cases {
            let error = parse_size(&value).expect_err("wrong");
            assert_eq!(error.pointer, pointer, "{value}");
            assert!(error.message.contains(message), "{value}: {error}");
        }
        assert!(parse_size(&json!("x".repeat(1_000_000))).expect_err("wrong").message.len() < 200);
    }
}
