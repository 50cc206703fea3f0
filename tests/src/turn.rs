//! Which tests run side by side: a few light ones, or one heavy one alone, so that load in one does not slow another.

use std::time::Duration;

use tokio::sync::Semaphore;

/// Light tests at once.
const PLACES: u32 = 5;

static TURN: Semaphore = Semaphore::const_new(PLACES as usize);

/// Runs a test beside others.
///
/// # Panics
/// When it takes longer than `limit`.
pub async fn light(limit: Duration, test: impl Future<Output = ()>) {
    run(1, limit, test).await;
}

/// Runs a test alone.
///
/// # Panics
/// When it takes longer than `limit`.
pub async fn heavy(limit: Duration, test: impl Future<Output = ()>) {
    run(PLACES, limit, test).await;
}

async fn run(places: u32, limit: Duration, test: impl Future<Output = ()>) {
    let _turn = TURN.acquire_many(places).await.expect("it is never closed");
    // Boxed: a test's future is large. Dropped after the assertion, so that its clusters show their logs.
    let mut test = Box::pin(test);
    let ended = tokio::time::timeout(limit, &mut test).await;
    assert!(ended.is_ok(), "the test is not over after {limit:?}");
}

/// Makes tests of claims that take a [`crate::Backend`]: `both!(light 60: first, second)` makes `first::process`,
/// `first::docker` and so on, each with 60 seconds.
#[macro_export]
macro_rules! both {
    ($weight:ident $seconds:literal: $($claim:ident),+ $(,)?) => {$(
        mod $claim {
            #[tokio::test]
            async fn process() {
                let limit = std::time::Duration::from_secs($seconds);
                longshore_tests::turn::$weight(limit, super::$claim(longshore_tests::Backend::Process)).await;
            }

            #[tokio::test]
            async fn docker() {
                let limit = std::time::Duration::from_secs($seconds);
                longshore_tests::turn::$weight(limit, super::$claim(longshore_tests::Backend::Docker)).await;
            }
        }
    )+};
}

/// Makes tests of claims that need no backend but processes: `each!(light 60: first, second)`.
#[macro_export]
macro_rules! each {
    ($weight:ident $seconds:literal: $($claim:ident),+ $(,)?) => {$(
        mod $claim {
            #[tokio::test]
            async fn holds() {
                let limit = std::time::Duration::from_secs($seconds);
                longshore_tests::turn::$weight(limit, super::$claim()).await;
            }
        }
    )+};
}
