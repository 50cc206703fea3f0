//! Api keys: whether a request has one that is known, and whose it is.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::usage::{Allowance, Usage};
use crate::config::keys::{ApiKey, Digest};
use crate::problem::Problem;

/// The field that has nothing but a key.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The keys in force.
#[derive(Debug)]
pub struct Keys(HashMap<Print, Arc<Key>, RandomState>);

/// A key, and what its holder takes.
#[derive(Debug)]
pub struct Key {
    known: ApiKey,
    /// Its requests.
    pub usage: Arc<Usage>,
}

/// A digest as it is looked up: hashed with a seed of this process, compared in constant time. So neither what is
/// looked up nor how long that takes tells anything of the keys.
#[derive(Clone, Copy, Debug)]
struct Print(Digest);

impl PartialEq for Print {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Print {}

impl Hash for Print {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Keys {
    /// These keys; what the holders of those that were known `before` take goes on being counted.
    pub fn new(list: &[ApiKey], before: Option<&Self>) -> Self {
        let key = |known: &ApiKey| {
            let print = Print(known.digest);
            let usage = before.and_then(|keys| keys.0.get(&print)).map(|key| key.usage.clone());
            (print, Arc::new(Key { known: known.clone(), usage: usage.unwrap_or_default() }))
        };
        Self(list.iter().map(key).collect())
    }

    /// The key that a request has, and the field that has it: `X-API-Key`, or else `Authorization: Bearer`.
    pub fn find(&self, headers: &HeaderMap) -> Result<(Arc<Key>, HeaderName), Problem> {
        let (field, secret) = given(headers).ok_or_else(|| {
            Problem::Unauthorized(
                "a key is required: send `Authorization: Bearer KEY` or `X-API-Key: KEY`".into(),
            )
        })?;
        match self.0.get(&Print(Sha256::digest(secret).into())) {
            Some(key) => Ok((key.clone(), field)),
            None => Err(Problem::Unauthorized(format!("the key in `{field}` is not known here"))),
        }
    }
}

impl Key {
    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.known.name
    }

    /// What its holder may take.
    pub const fn allowance(&self) -> Allowance {
        Allowance { concurrent: self.known.concurrent, rate: self.known.rate }
    }
}

fn given(headers: &HeaderMap) -> Option<(HeaderName, &[u8])> {
    if let Some(key) = headers.get(&X_API_KEY) {
        return Some((X_API_KEY, key.as_bytes().trim_ascii()));
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| (header::AUTHORIZATION, key.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str) -> ApiKey {
        let digest = Sha256::digest(secret).into();
        ApiKey { name: name.to_owned(), digest, rate: None, concurrent: 0 }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_key_is_found_in_either_field() {
        let keys = Keys::new(&[key("ann", "secret"), key("bob", "other")], None);
        for (fields, name, field) in [
            (&[("authorization", "Bearer secret")][..], "ann", header::AUTHORIZATION),
            (&[("authorization", "bearer  other ")], "bob", header::AUTHORIZATION),
            (&[("x-api-key", "other")], "bob", X_API_KEY),
            // The other field is the instance's then.
            (&[("x-api-key", "other"), ("authorization", "Bearer secret")], "bob", X_API_KEY),
            (&[("x-api-key", "other"), ("authorization", "Basic eDp5")], "bob", X_API_KEY),
        ] {
            let (key, found) = keys.find(&headers(fields)).unwrap();
            assert_eq!((key.name(), found), (name, field), "{fields:?}");
        }
    }

    #[test]
    fn whoever_has_no_known_key_is_told_so_and_not_which_are() {
        let keys = Keys::new(&[key("ann", "secret")], None);
        for fields in [
            &[][..],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer Secret")],
            &[("authorization", "Basic secret")],
            &[("authorization", "secret")],
            &[("x-api-key", "")],
            &[("x-api-key", "wrong"), ("authorization", "Bearer secret")],
        ] {
            let problem = keys.find(&headers(fields)).unwrap_err();
            assert_eq!((problem.kind(), problem.status().as_u16()), ("unauthorized", 401), "{fields:?}");
            assert!(!problem.detail().contains("secret"), "{}", problem.detail());
        }
    }

    #[test]
    fn what_a_holder_takes_is_counted_on_over_a_reload() {
        let before = Keys::new(&[key("ann", "secret"), key("bob", "other")], None);
        let after = Keys::new(&[key("ann", "secret"), key("bob", "changed")], Some(&before));
        let usage = |keys: &Keys, secret: &'static str| {
            keys.find(&headers(&[("x-api-key", secret)])).unwrap().0.usage.clone()
        };
        assert!(Arc::ptr_eq(&usage(&before, "secret"), &usage(&after, "secret")));
        assert!(!Arc::ptr_eq(&usage(&before, "other"), &usage(&after, "changed")));
        assert!(after.find(&headers(&[("x-api-key", "other")])).is_err(), "a key that is gone is not known");
    }
}
