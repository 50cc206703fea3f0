//! Reads `[services.NAME.queue]`: who waits, and who is served first.

use http::HeaderName;
use longshore_pool::QueueOrder;

use super::diagnostics::Diagnostic;
use super::reader::Table;
use super::service::{AGEING, Queue, RequestKey};
use super::value::Value;

pub(super) fn read_queue(table: &mut Table<'_>, out: &mut Queue) {
    read_order(table, out);
    table.set("limit", &mut out.limit, |value| value.integer(0..=100_000_000));
    table.set("max_bytes", &mut out.max_bytes, Value::bytes);
    table.set("timeout", &mut out.timeout, Value::timeout);
}

/// `order`, and what belongs to one order only.
fn read_order(table: &mut Table<'_>, out: &mut Queue) {
    let [order, fair_key, ageing] = ["order", "fair_key", "ageing"].map(|key| table.take(key));
    let waited = ageing.as_ref().and_then(Value::timeout).unwrap_or(AGEING);
    let orders = [
        ("fifo", QueueOrder::Fifo),
        ("random", QueueOrder::Random),
        ("fair", QueueOrder::Fair),
        ("priority", QueueOrder::Priority { ageing: waited }),
    ];
    let chosen = match &order {
        Some(value) => value.word(&orders),
        None => Some(out.order),
    };
    let key = fair_key.as_ref().and_then(|value| value.parsed(fair));
    out.fair_key = key.clone().unwrap_or(RequestKey::Ip);
    // What the order is that was misspelt, nobody knows.
    let Some(chosen) = chosen else { return };
    out.order = chosen;
    let by_priority = matches!(chosen, QueueOrder::Priority { .. });
    let owners = [
        (fair_key, "fair", chosen == QueueOrder::Fair || key.is_none_or(|key| key == RequestKey::Ip)),
        (ageing, "priority", by_priority || waited == AGEING),
    ];
    for (value, order, right) in owners {
        if let Some(value) = value.filter(|_| !right) {
            let message = format!("`{}` says nothing unless `order = {order:?}`", value.path());
            table.reader.report(Diagnostic::new(value.key.clone(), message));
        }
    }
}

fn fair(text: &str) -> Result<RequestKey, String> {
    match text {
        "ip" => Ok(RequestKey::Ip),
        "api-key" => Ok(RequestKey::ApiKey),
        _ => header(text).ok_or_else(|| "clients are told apart by ip, header:NAME or api-key".into()),
    }
}

/// `header:NAME`.
fn header(text: &str) -> Option<RequestKey> {
    let name = text.strip_prefix("header:")?;
    HeaderName::try_from(name).ok().map(RequestKey::Header)
}
