//! What every store must do, demanded of each of them. Redis is Debian's `redis-server`, one for each test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod bodies;
mod jobs;
mod lists;
mod redis;
mod support;
mod transfers;

use std::sync::Arc;

use longshore_jobs::{FileStore, MemoryStore, RedisStore, Store};

use redis::Server;

/// A store of one kind, and what goes with it when it is dropped.
pub struct Fixture {
    store: Arc<dyn Store>,
    _folder: Option<tempfile::TempDir>,
    server: Option<Server>,
}

impl Fixture {
    fn memory(max_bytes: u64) -> Self {
        let store = Arc::new(MemoryStore::new(support::limits(max_bytes)));
        Self { store, _folder: None, server: None }
    }

    fn file(max_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(&folder.path().join("store"), support::limits(max_bytes)).unwrap();
        Self { store: Arc::new(store), _folder: Some(folder), server: None }
    }

    async fn redis(max_bytes: u64) -> Self {
        let server = Server::start().await;
        let store = RedisStore::open(&server.url(), "test", support::limits(max_bytes)).await.unwrap();
        Self { store: Arc::new(store), _folder: None, server: Some(server) }
    }
}

/// Makes each story a test of each store.
macro_rules! of_every_store {
    ($($module:ident::$story:ident)*) => {
        mod memory {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $story() { super::$module::$story(&super::Fixture::memory(1 << 30)).await }
        )*}
        mod file {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $story() { super::$module::$story(&super::Fixture::file(1 << 30)).await }
        )*}
        mod in_redis {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $story() { super::$module::$story(&super::Fixture::redis(1 << 30).await).await }
        )*}
    };
}

of_every_store! {
    jobs::a_job_is_kept_as_it_was_given
    jobs::the_slower_of_two_changes_is_told_so
    jobs::a_job_that_is_there_is_not_made_again
    jobs::no_two_jobs_have_one_name
    jobs::a_name_is_free_again_when_its_job_gives_it_up
    jobs::a_forgotten_job_is_gone_with_all_that_names_it
    jobs::many_at_once_each_get_their_own
    jobs::changes_are_told
    lists::jobs_wait_in_their_order
    lists::who_is_taken_waits_no_more_and_comes_back_to_the_same_place
    lists::what_is_due_is_found_when_it_is_due
    lists::pages_stay_whole_while_jobs_come_and_go
    lists::jobs_are_found_by_service_and_state
    lists::the_holder_of_a_key_finds_those_that_came_with_it
    lists::jobs_are_counted
    bodies::a_body_comes_back_as_it_was_written
    bodies::a_body_is_read_from_any_place
    bodies::a_body_goes_with_the_last_record_that_names_it
    bodies::a_body_without_a_record_takes_no_room
    transfers::what_is_exported_can_be_imported_elsewhere
    transfers::one_job_is_exported_alone
    transfers::a_job_that_changes_while_it_is_exported_is_in_the_file_as_it_is_then
    transfers::an_import_that_fills_the_store_says_what_it_has_done
    transfers::jobs_that_are_there_stay_or_are_replaced
    transfers::a_broken_file_names_its_line_and_changes_nothing
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_says_so_and_works_again_when_there_is_room() {
    for fixture in [Fixture::memory(300_000), Fixture::file(300_000), Fixture::redis(300_000).await] {
        bodies::a_full_store_says_so(&fixture).await;
    }
}
