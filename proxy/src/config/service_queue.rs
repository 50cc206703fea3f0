//! Reads `[services.NAME.queue]` and `[services.NAME.balance]`: who waits, who is served first, and by which instance.

use http::HeaderName;
use longshore_pool::{BalancePolicy, QueueOrder};

use super::diagnostics::Diagnostic;
use super::reader::Table;
use super::service::{AGEING, Balance, Queue, RequestKey};
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

pub(super) fn read_balance(table: &mut Table<'_>, out: &mut Balance) {
    let [policy, hash_key] = ["policy", "hash_key"].map(|key| table.take(key));
    table.set("slow_start", &mut out.slow_start, Value::duration);
    let policies = [
        ("least-busy", BalancePolicy::LeastBusy),
        ("round-robin", BalancePolicy::RoundRobin),
        ("random", BalancePolicy::Random),
        ("peak-ewma", BalancePolicy::PeakEwma),
        ("hash", BalancePolicy::Hash),
    ];
    let chosen = match &policy {
        Some(value) => value.word(&policies),
        None => Some(out.policy),
    };
    let key = hash_key.as_ref().and_then(|value| value.parsed(hash));
    let Some(chosen) = chosen else { return };
    out.policy = chosen;
    // Another policy has no use for a key that stands there for later.
    out.hash_key = key.filter(|_| chosen == BalancePolicy::Hash);
    if let (BalancePolicy::Hash, Some(policy), None) = (chosen, policy, hash_key) {
        let message = format!("`{} = \"hash\"` needs a `hash_key` beside it", policy.path());
        let help = format!("write `hash_key = \"header:X-Session\"`, for example: {HASH_KEYS}");
        table.reader.report(Diagnostic::new(policy.span, message).help(help));
    }
}

const HASH_KEYS: &str = "a hash key is ip, path, header:NAME or cookie:NAME";

fn hash(text: &str) -> Result<RequestKey, String> {
    match text {
        "ip" => Ok(RequestKey::Ip),
        "path" => Ok(RequestKey::Path),
        _ => header(text).or_else(|| cookie(text)).ok_or_else(|| HASH_KEYS.into()),
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

/// `cookie:NAME`, a token (RFC 6265, 4.1.1).
fn cookie(text: &str) -> Option<RequestKey> {
    let name = text.strip_prefix("cookie:")?;
    let token = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c);
    (!name.is_empty() && name.chars().all(token)).then(|| RequestKey::Cookie(name.to_owned()))
}
