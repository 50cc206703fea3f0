//! By what names a request that is sent twice is known to be one job: its client's own (`Idempotency-Key`), or its input.

use http::{HeaderMap, HeaderName};
use longshore_jobs::{CREDENTIALS, Job};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A longer key is refused: it is kept with every job.
const LONGEST_KEY: usize = 255;

/// The client's own name for a request, if it has one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(&IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().map(|text| text.trim().trim_matches('"')).unwrap_or_default();
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(Problem::Invalid(format!(
            "Idempotency-Key must be from 1 to {LONGEST_KEY} visible characters"
        )));
    }
    Ok(Some(key.to_owned()))
}

/// Whose name it is: two clients with credentials of their own do not share names. Whoever has a key for the proxy is known by
/// it, though what they are for the instance changes (a token that was renewed).
pub(super) fn scope(holder: Option<&str>, headers: &HeaderMap) -> String {
    holder.map_or_else(|| credentials(headers), str::to_owned)
}

/// What identical input has in common. Whoever has credentials of their own may be answered otherwise.
pub(super) fn identity(digest: &str, holder: Option<&str>, headers: &HeaderMap) -> String {
    format!("{digest}{}{}", holder.unwrap_or_default(), credentials(headers))
}

/// A digest of who somebody is to the instance; empty for nobody.
fn credentials(headers: &HeaderMap) -> String {
    let (mut digest, mut found) = (Sha256::new(), false);
    for name in CREDENTIALS {
        for value in headers.get_all(name) {
            found = true;
            digest.update(name);
            digest.update((value.len() as u64).to_le_bytes());
            digest.update(value);
        }
    }
    if found { hex(&digest.finalize()[..8]) } else { String::new() }
}

/// The job that has a name of a new one already, if it is the same request and does for it what it asks for.
pub(super) fn same(there: Option<Job>, new: &Job) -> Result<Job, Problem> {
    let gone = || Problem::Conflict("the job of this key has just gone: send the request again".to_owned());
    let there = there.ok_or_else(gone)?;
    match (&there.key, &new.key) {
        (Some(theirs), Some(ours)) if theirs.key == ours.key && theirs.fingerprint != ours.fingerprint => {
            Err(Problem::KeyReused(format!(
                "the Idempotency-Key {:?} stands for another request, which is job {}: use a new key",
                ours.key, there.id
            )))
        }
        _ => calls_back_as_wanted(&there, new).map(|()| there),
    }
}

/// A result is posted to one place, so whoever wants it elsewhere is refused; whoever wants no callback is not bothered by
/// another's.
fn calls_back_as_wanted(there: &Job, new: &Job) -> Result<(), Problem> {
    let url = |job: &Job| job.callback.as_ref().map(|callback| callback.url.clone());
    let Some(wanted) = url(new).filter(|wanted| url(there).as_ref() != Some(wanted)) else { return Ok(()) };
    let place = url(there).map_or_else(|| "nowhere".to_owned(), |url| format!("to {url}"));
    let what = format!("job {}, whose result is posted {place} and not to {wanted}", there.id);
    Err(match &new.key {
        Some(key) => Problem::KeyReused(format!(
            "the Idempotency-Key {:?} stands for {what}: use a new key, or leave Longshore-Callback as it was",
            key.key
        )),
        None => Problem::Conflict(format!(
            "identical input is one job, and is already {what}: ask for it, without Longshore-Callback"
        )),
    })
}

/// As lower case digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn whoever_may_be_answered_otherwise_has_an_input_of_their_own() {
        let identity = |holder, sent: &[_]| identity("abc", holder, &fields(sent));
        let nobody = identity(None, &[]);
        assert_eq!(identity(None, &[("user-agent", "curl")]), nobody);
        let mut all = vec![nobody];
        for name in CREDENTIALS {
            all.extend([identity(None, &[(name, "ann")]), identity(None, &[(name, "bob")])]);
        }
        all.extend([identity(Some("key"), &[]), identity(Some("key"), &[("cookie", "ann")])]);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
    }

    #[test]
    fn a_key_belongs_to_whoever_used_it() {
        let (ann, bob) = (fields(&[("authorization", "ann")]), fields(&[("cookie", "bob")]));
        assert_ne!(scope(None, &ann), scope(None, &bob));
        assert_eq!(scope(None, &fields(&[])), "");
        assert_eq!(scope(Some("key"), &ann), scope(Some("key"), &bob), "a token may be renewed");
        for (value, expected) in [("\"a b\"", Some("a b")), ("x", Some("x")), ("\"\"", None), ("  ", None)] {
            let key = key(&fields(&[("idempotency-key", value)])).ok().flatten();
            assert_eq!(key.as_deref(), expected, "{value}");
        }
    }
}
