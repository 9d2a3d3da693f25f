//! What every storage has to do. Each case works in its own namespace, so that all share one store.

mod help;
mod lists;
mod watches;
mod writes;

use std::sync::Arc;

use keelstone_storage::Storage;
use keelstone_store_client::EtcdKv;

/// Runs every case; those that compact come last.
pub async fn all(storage: Arc<dyn Storage>, kv: Arc<dyn EtcdKv>) {
    let s = &*storage;
    writes::create_get_delete(s).await;
    writes::a_second_create_is_refused(s).await;
    writes::updates_are_compare_and_set(s).await;
    writes::preconditions_are_checked(s).await;
    writes::equal_content_is_not_written(s).await;
    writes::a_dry_run_changes_nothing(s).await;
    writes::concurrent_updates_all_count(&storage).await;
    writes::too_large_objects_are_refused(s).await;
    lists::pages_are_one_snapshot(s).await;
    lists::selectors_and_single_keys(s).await;
    lists::resource_versions(s).await;
    watches::from_a_revision_in_order(s).await;
    watches::state_then_changes(s).await;
    watches::initial_events_end_in_a_bookmark(s).await;
    watches::selectors_make_arrivals_and_departures(s).await;
    watches::a_timeout_ends_the_watch(s).await;
    watches::list_then_watch_is_the_state(&storage).await;
    lists::compaction_expires_continue_tokens(s, &*kv).await;
    watches::compacted_starts_are_expired(s, &*kv).await;
}
