//! Who is let in: connections and requests that are within `[proxy.limits]`, and have a key where one is required.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{self, HeaderMap};
use longshore_pool::Time;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::clients::{Clients, Connected};
use super::keys::{Key, Keys};
use super::pace::Pace;
use super::usage::{Allowance, Permit};
use crate::config::keys::ApiKeys;
use crate::config::{Limits, ProxyConfig};
use crate::problem::Problem;

const TURNING_AWAY: usize = 64;

/// What decides who is let in.
pub struct Admission {
    rules: ArcSwap<Rules>,
    clients: Arc<Clients>,
    /// Refused connections that may be told so at the same time: more are closed without a word.
    turning_away: Semaphore,
}

/// The rules in force.
pub struct Rules {
    /// What may be taken.
    pub limits: Limits,
    api_keys: Option<ApiKeys>,
    keys: Option<Keys>,
    /// Whether an instance gets to see the key.
    forward_key: bool,
}

/// Who sends a request.
pub struct Requester<'a> {
    /// The connection that it comes over.
    pub connected: &'a Connected,
    /// The client: whom trusted proxies name, else who connects.
    pub address: Option<IpAddr>,
}

/// What a request counts for until its answer is over.
#[derive(Debug, Default)]
pub struct Permits {
    _client: Option<Permit>,
    _key: Option<Permit>,
}

impl Admission {
    /// With the rules of `proxy`.
    pub fn new(proxy: &ProxyConfig) -> Self {
        let rules = Rules::new(proxy, None);
        Self {
            rules: ArcSwap::from_pointee(rules),
            clients: Arc::default(),
            turning_away: Semaphore::new(TURNING_AWAY),
        }
    }

    /// Other rules from now on. Connections that are open stay so; what their clients take goes on being counted.
    pub fn change(&self, proxy: &ProxyConfig) {
        let before = self.rules.load();
        self.rules.store(Arc::new(Rules::new(proxy, before.keys.as_ref())));
    }

    /// The file of the keys in force.
    pub fn keys_file(&self) -> Option<PathBuf> {
        self.rules.load().api_keys.as_ref().map(|keys| keys.file.clone())
    }

    /// The file of keys says this now. Returns whether that is news.
    pub fn change_keys(&self, keys: ApiKeys) -> bool {
        let before = self.rules.load();
        let is_news =
            before.api_keys.as_ref().is_some_and(|known| known.file == keys.file && known.list != keys.list);
        if is_news {
            self.rules.store(Arc::new(Rules {
                limits: before.limits.clone(),
                keys: Some(Keys::new(&keys.list, before.keys.as_ref())),
                api_keys: Some(keys),
                forward_key: before.forward_key,
            }));
        }
        is_news
    }

    /// How slowly a body may come. A gRPC call may be silent for as long as it likes: its client speaks when it has
    /// something to say.
    pub fn pace(&self, headers: &HeaderMap) -> Option<Pace> {
        let kind = headers.get(header::CONTENT_TYPE);
        let is_call = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if is_call { None } else { Pace::of(&self.rules.load().limits) }
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Lets a connection in.
    pub fn connect(&self, peer: Option<IpAddr>, is_proxy: bool, now: Time) -> Result<Connected, Problem> {
        self.clients.connect(peer, is_proxy, &self.rules.load().limits, now)
    }

    /// A turn to tell a connection why it is refused, unless too many are being told.
    pub fn turn_away(&self) -> Option<SemaphorePermit<'_>> {
        self.turning_away.try_acquire().ok()
    }

    /// Lets a request in, in this order:
    ///
    /// 1. its header has no more fields than allowed (HTTP/1.1 parsers count for themselves);
    /// 2. its client asks neither too much at once nor too often;
    /// 3. it has a key, where one is required; the field that has it ends here unless it is to be passed on;
    /// 4. the key's holder asks neither too much at once nor too often.
    pub fn admit(
        &self,
        requester: &Requester<'_>,
        headers: &mut HeaderMap,
        now: Time,
    ) -> Result<(Permits, Option<Arc<Key>>), Problem> {
        let rules = self.rules.load();
        // 1.
        if headers.len() > rules.limits.header_fields {
            let detail = format!("the header section has more than {} fields", rules.limits.header_fields);
            return Err(Problem::HeadersTooLarge(detail));
        }
        // 2.
        let client = match requester.connected.caller_at(requester.address, &rules.limits, now) {
            Some(caller) => Some(caller.usage.enter(rules.limits.of_a_client(), "this client", now)?),
            None => None,
        };
        // 3.
        let Some(keys) = &rules.keys else { return Ok((Permits { _client: client, _key: None }, None)) };
        let (key, field) = keys.find(headers)?;
        if !rules.forward_key {
            headers.remove(field);
        }
        // 4.
        let permit = key.usage.enter(key.allowance(), "the holder of this key", now)?;
        Ok((Permits { _client: client, _key: Some(permit) }, Some(key)))
    }
}

impl Rules {
    /// Those of `proxy`. What the holders of keys that were known `before` take goes on being counted.
    fn new(proxy: &ProxyConfig, before: Option<&Keys>) -> Self {
        Self {
            limits: proxy.limits.clone(),
            keys: proxy.api_keys.as_ref().map(|keys| Keys::new(&keys.list, before)),
            api_keys: proxy.api_keys.clone(),
            forward_key: proxy.forward_api_key,
        }
    }
}

impl Limits {
    /// What a client may take.
    const fn of_a_client(&self) -> Allowance {
        Allowance { concurrent: self.client_concurrent, rate: self.client_rate }
    }
}
