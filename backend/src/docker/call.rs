//! Calls to the engine: how long each may take, and what its failure means.

use std::error::Error as _;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;

use crate::{BackendError, StartError};

/// How long a look (ping, inspect) may take; idle engines need 1 ms.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How long a listing may take.
pub(super) const LIST: Duration = Duration::from_secs(5);
/// How often a long call asks whether the engine is still there.
const ROUND: Duration = Duration::from_secs(10);
/// After so many rounds a call has failed though the engine answers pings.
const ROUNDS: u32 = 6;

/// The call's result, or a timeout.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Error::RequestTimeoutError))
}

/// The result of a call that changes something. A busy engine is given a minute; one that answers no ping, ten seconds.
pub(super) async fn patiently<T>(
    docker: &Docker,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut call = std::pin::pin!(call);
    for _ in 0..ROUNDS {
        if let Ok(result) = tokio::time::timeout(ROUND, &mut call).await {
            return result;
        }
        within(LOOK, docker.ping()).await?;
    }
    Err(Error::RequestTimeoutError)
}

/// Whether the engine, rather than what it was asked, is the trouble.
pub(super) fn is_down(error: &Error) -> bool {
    matches!(
        error,
        Error::RequestTimeoutError
            | Error::IOError { .. }
            | Error::HttpClientError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. }
            | Error::SocketNotFoundError(_)
    )
}

/// The HTTP status that the engine answered with, if it did.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What went wrong, with its causes: bollard's own texts leave them out ("client error (Connect)").
pub(super) fn text(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::RequestTimeoutError => "no answer in time".to_owned(),
        // It tells at which step it came, and its innermost cause what it was.
        Error::HyperLegacyError { err } => {
            let mut cause: &dyn std::error::Error = err;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            cause.to_string()
        }
        other => {
            let mut text = other.to_string();
            let mut cause = other.source();
            while let Some(error) = cause {
                let more = error.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = error.source();
            }
            text
        }
    }
}

/// The engine does not answer.
pub(super) fn down(error: &Error) -> StartError {
    StartError::EngineDown(format!("the Docker engine does not answer: {}", text(error)))
}

/// Why a container could not be created or started:
///
/// 1. no answer: the engine is down;
/// 2. 404 for the image: it is not there;
/// 3. 404 (network), 400 (options, a program that the image lacks), a GPU that the engine cannot give, a volume
///    that it cannot read (500 in older engines): futile;
/// 4. anything else may succeed next time.
pub(super) fn start_error(image: &str, error: &Error) -> StartError {
    if is_down(error) {
        return down(error);
    }
    let text = text(error);
    match status(error) {
        Some(404) if text.to_lowercase().contains("no such image") => StartError::NoImage(format!(
            "image {image} is not on this engine any more; build or pull it again"
        )),
        Some(code) if matches!(code, 400 | 404) || text.starts_with("invalid ") => {
            StartError::Futile(format!("the engine refuses to run {image}: {text}"))
        }
        Some(_) if text.contains("could not select device driver") => StartError::Futile(format!(
            "the engine cannot give {image} a GPU ({text}); install the NVIDIA container toolkit or remove `gpus`"
        )),
        Some(_) | None => StartError::Failed(format!("the engine could not start {image}: {text}")),
    }
}

/// Any other call that failed.
pub(super) fn backend_error(what: &str, error: &Error) -> BackendError {
    BackendError(format!("cannot {what}: {}", text(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> StartError {
        start_error("m", &Error::DockerResponseServerError { status_code, message: message.to_owned() })
    }

    #[test]
    fn what_only_a_person_can_mend_is_futile() {
        assert!(matches!(answer(404, "No such image: m:latest"), StartError::NoImage(_)));
        assert!(
            matches!(answer(404, "network n not found"), StartError::Futile(text) if text.contains("network n"))
        );
        assert!(matches!(answer(400, "invalid mount config"), StartError::Futile(_)));
        assert!(matches!(answer(500, "invalid volume specification: 'a:b:c:d'"), StartError::Futile(_)));
        let gpu = "could not select device driver \"\" with capabilities: [[gpu]]";
        assert!(matches!(answer(500, gpu), StartError::Futile(text) if text.contains("gpus")));
    }

    #[test]
    fn what_may_pass_is_not() {
        assert!(matches!(answer(500, "port is already allocated"), StartError::Failed(_)));
        assert!(matches!(answer(409, "conflict"), StartError::Failed(_)));
    }

    #[test]
    fn an_engine_that_does_not_answer_says_nothing_about_the_service() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(matches!(start_error("m", &Error::IOError { err: refused }), StartError::EngineDown(_)));
        assert!(matches!(start_error("m", &Error::RequestTimeoutError), StartError::EngineDown(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_in_time() {
        let hung = within(LOOK, std::future::pending::<Result<(), Error>>()).await;
        assert!(matches!(hung, Err(Error::RequestTimeoutError)));
    }
}
