//! Answers held against an OpenAPI document: of its schemas, what is used there.

use serde_json::Value;

use crate::Reply;

/// Whether an answer is one that the document describes for the request.
///
/// # Errors
/// What is not as described.
pub fn check(document: &Value, method: &str, path: &str, reply: &Reply) -> Result<(), String> {
    let path = path.split('?').next().unwrap_or_default();
    let paths = document["paths"].as_object().ok_or("the document has no paths")?;
    let exact = paths.get(path);
    let item = exact.or_else(|| paths.iter().find(|(name, _)| fits(name, path)).map(|(_, item)| item));
    let operation = &item.ok_or_else(|| format!("{path} is not described"))?[method.to_ascii_lowercase()];
    let response = follow(document, &operation["responses"][reply.status.to_string()]);
    if !response.is_object() {
        return Err(format!("the status {} is not described", reply.status));
    }
    let Some(content) = response["content"].as_object() else {
        return if reply.body.is_empty() { Ok(()) } else { Err("no body is described".to_owned()) };
    };
    let kind = reply.header("content-type").split(';').next().unwrap_or_default().trim();
    let media = content.get(kind).or_else(|| content.get("*/*"));
    let media = media.ok_or_else(|| format!("the type {kind:?} is not described"))?;
    if !(kind.ends_with("/json") || kind.ends_with("+json")) || content.get(kind).is_none() {
        return Ok(());
    }
    matches(document, &media["schema"], &reply.json(), "$")
}

/// `/_jobs/{id}/result` and the like.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let same = |(one, other): (&&str, &&str)| one == other || (one.starts_with('{') && !other.is_empty());
    template.len() == path.len() && template.iter().zip(&path).all(same)
}

fn follow<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap_or(&Value::Null),
        None => value,
    }
}

fn matches(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = follow(document, schema);
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is(name, value)) {
        return Err(format!("{at} is {value}, not {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return Err(format!("{at} is {value}, not one of {}", schema["enum"]));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < least
    {
        return Err(format!("{at} is {value}, below {least}"));
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            object.get(name).ok_or_else(|| format!("{at}.{name} is missing"))?;
        }
        for (name, value) in object {
            match schema["properties"].get(name) {
                Some(schema) => matches(document, schema, value, &format!("{at}.{name}"))?,
                None if schema["additionalProperties"] == false => {
                    return Err(format!("{at}.{name} is not described"));
                }
                None => {}
            }
        }
    }
    let items = value.as_array().into_iter().flatten().enumerate();
    for (index, value) in items.filter(|_| schema["items"].is_object()) {
        matches(document, &schema["items"], value, &format!("{at}[{index}]"))?;
    }
    Ok(())
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}
