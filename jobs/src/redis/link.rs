//! The connection to Redis. What fails because Redis is away is tried again for a while: it may be restarting. Every command
//! may be sent twice.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, RedisError, ScriptInvocation};
use tokio::time::Instant;

use crate::store::StoreError;

/// How long Redis may be away before whoever waits is told.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long it may take to answer one command.
const ANSWER: Duration = Duration::from_secs(5);

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub(super) struct Link {
    connection: ConnectionManager,
    name: String,
}

pub(super) fn client(url: &str) -> Result<Client, StoreError> {
    understood(url).map_err(|error| StoreError::Unavailable(format!("{}: {error}", nameless(url))))
}

/// What is meant by a URL; the error says what is wrong with it, without the name that the library has for that.
pub(super) fn understood(url: &str) -> Result<Client, String> {
    Client::open(url).map_err(|error| {
        let text = error.to_string();
        text.split_once(" - ").map_or(text.as_str(), |(what, _)| what).to_owned()
    })
}

impl Link {
    pub(super) async fn open(client: Client, url: &str) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER))
            .set_number_of_retries(3);
        let name = nameless(url);
        let connection = client
            .get_connection_manager_with_config(config)
            .await
            .map_err(|error| StoreError::Unavailable(format!("{name}: {error}")))?;
        Ok(Self { connection, name })
    }

    /// What it is, for people: without a password.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut patience = Patience::new();
        loop {
            match command.query_async(&mut self.connection.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.after(&error, self).await?,
            }
        }
    }

    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let mut patience = Patience::new();
        loop {
            match script.invoke_async(&mut self.connection.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.after(&error, self).await?,
            }
        }
    }
}

struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    /// Waits a moment if the next try may go better.
    async fn after(&mut self, error: &RedisError, link: &Link) -> Result<(), StoreError> {
        let text = format!("{}: {error}", link.name);
        if error.code() == Some("OOM") {
            return Err(StoreError::Full(format!("{text}: give it more memory (maxmemory), or delete jobs")));
        }
        let away = error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped()
            || error.is_connection_refusal()
            || matches!(error.code(), Some("LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "READONLY"));
        if !away || Instant::now() > self.0 {
            return Err(StoreError::Unavailable(text));
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// The URL without the password in it.
fn nameless(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://…@{}", &url[..scheme], &url[at + 1..]),
        (Some(_) | None, Some(_) | None) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_url_that_none_can_mean_is_told_in_words() {
        for (url, wrong) in [("redis://", "Missing hostname"), ("redis://host/x", "Invalid database number")]
        {
            assert_eq!(super::understood(url).err().as_deref(), Some(wrong));
        }
        assert!(super::understood("redis://host:6379/0").is_ok());
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(super::nameless("redis://:secret@host:6379/0"), "redis://…@host:6379/0");
        assert_eq!(super::nameless("redis://host/0"), "redis://host/0");
    }
}
