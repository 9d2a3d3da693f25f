//! What only the cached storage does: reads without the store, and a feed that survives faults.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_machinery::{gvk::GroupResource, status::ApiResult};
use keelstone_storage::{
    constants::{BOOKMARK_INTERVAL, OPERATION_TIMEOUT, WATCH_RING_EVENTS_MAX},
    testing::{MemoryKv, TxnFault},
    CachedStorage, Cacher, Freshness, ListOptions, Outcome, Preconditions, Storage, StorageConfig, StoredObject,
    Update, Verdict, WatchEvent, WatchEvents, WatchOptions, WatchStart,
};
use keelstone_store_client::EtcdKv;
use serde_json::{json, Value};

struct World {
    kv: Arc<MemoryKv>,
    cacher: Arc<Cacher>,
    pods: Arc<CachedStorage>,
}

fn config(resource: &str) -> StorageConfig {
    StorageConfig::new(GroupResource { group: String::new(), resource: resource.into() })
}

async fn world() -> World {
    let kv = MemoryKv::new();
    let cacher = Cacher::start(Env::os(), kv.clone());
    let pods = cacher.storage(config("pods"));
    filled(&cacher).await;
    World { kv, cacher, pods }
}

async fn filled(cacher: &Cacher) {
    while !cacher.unfilled().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"namespace": "d", "name": name}})
}

async fn create(storage: &dyn Storage, name: &str) -> i64 {
    storage.create(&format!("d/{name}"), pod(name), None, false).await.unwrap().revision()
}

struct Set(String);

#[async_trait::async_trait]
impl Update for Set {
    async fn update(&mut self, current: Option<&StoredObject>) -> ApiResult<Verdict> {
        let mut object = current.expect("it is there").value().clone();
        object["metadata"]["labels"] = json!({"v": self.0});
        Ok(Verdict::Write { object, ttl_s: None })
    }
}

/// Writes `value` into an object that is there.
async fn write(storage: &CachedStorage, name: &str, value: &str) -> ApiResult<i64> {
    let mut update = Set(value.to_owned());
    let written = storage.update(&format!("d/{name}"), &Preconditions::default(), &mut update, false).await?;
    match written {
        Outcome::Updated(object) => Ok(object.revision()),
        other => panic!("{other:?}"),
    }
}

async fn names(storage: &dyn Storage, freshness: Freshness) -> Vec<String> {
    let page = storage.list("", ListOptions { freshness, ..ListOptions::default() }).await.unwrap();
    page.objects.iter().map(|o| o.key()[2..].to_owned()).collect()
}

fn start(start: WatchStart) -> WatchOptions {
    WatchOptions { start, bookmarks: true, ..WatchOptions::default() }
}

async fn next(events: &mut WatchEvents) -> Option<(&'static str, String, i64)> {
    let event = tokio::time::timeout(Duration::from_secs(120), events.next()).await.expect("an event in time")?;
    Some(match event {
        WatchEvent::Added(o) => ("ADDED", o.key()[2..].to_owned(), o.revision()),
        WatchEvent::Modified(o) => ("MODIFIED", o.key()[2..].to_owned(), o.revision()),
        WatchEvent::Deleted(o) => ("DELETED", o.key()[2..].to_owned(), o.revision()),
        WatchEvent::Bookmark { revision, .. } => ("BOOKMARK", String::new(), revision),
        WatchEvent::Error(e) => ("ERROR", e.message, i64::from(e.code)),
    })
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_memory_answers_and_the_rest_says_why() {
    let w = world().await;
    let revision = create(&*w.pods, "a").await;
    assert_eq!(names(&*w.pods, Freshness::Latest).await, ["a"]);
    w.kv.set_down(true);
    assert_eq!(names(&*w.pods, Freshness::Any).await, ["a"]);
    assert_eq!(names(&*w.pods, Freshness::NotOlderThan(revision)).await, ["a"]);
    assert!(w.pods.get("d/a", Freshness::Any).await.is_ok());
    let before = tokio::time::Instant::now();
    let list = w.pods.list("", ListOptions::default()).await.unwrap_err();
    let get = w.pods.get("d/a", Freshness::Latest).await.unwrap_err();
    let write = w.pods.create("d/b", pod("b"), None, false).await.unwrap_err();
    assert!(before.elapsed() <= 3 * OPERATION_TIMEOUT);
    for error in [list, get, write] {
        assert_eq!((error.code, error.reason.as_str()), (503, "ServiceUnavailable"));
        assert!(error.message.contains("quorum is lost"), "{}", error.message);
    }
    w.kv.set_down(false);
    assert_eq!(names(&*w.pods, Freshness::Latest).await, ["a"]);
    create(&*w.pods, "b").await;
    assert_eq!(names(&*w.pods, Freshness::Latest).await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_store_hangs_nobody() {
    let w = world().await;
    create(&*w.pods, "a").await;
    assert_eq!(names(&*w.pods, Freshness::Latest).await, ["a"]);
    w.kv.set_frozen(true);
    let bound = OPERATION_TIMEOUT + Duration::from_millis(100);
    let before = tokio::time::Instant::now();
    let list = w.pods.list("", ListOptions::default()).await.unwrap_err();
    assert!(list.code == 503 && list.message.contains("quorum is lost"), "{}", list.message);
    assert!(before.elapsed() <= bound);
    let before = tokio::time::Instant::now();
    let write = w.pods.create("d/b", pod("b"), None, false).await.unwrap_err();
    assert_eq!((write.code, write.reason.as_str()), (504, "Timeout"));
    assert!(write.message.contains("may or may not have been carried out"), "{}", write.message);
    assert!(before.elapsed() <= bound);
    assert_eq!(names(&*w.pods, Freshness::Any).await, ["a"]);
    w.kv.set_frozen(false);
    assert_eq!(names(&*w.pods, Freshness::Latest).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn lost_answers_are_settled_by_doing_the_same_again() {
    let w = world().await;
    create(&*w.pods, "a").await;
    for fault in [TxnFault::AnswerLost, TxnFault::RequestLost] {
        w.kv.fail_next_txn(fault);
        let revision = write(&w.pods, "a", &format!("{fault:?}")).await.unwrap();
        assert_eq!(w.pods.get("d/a", Freshness::Latest).await.unwrap().revision(), revision);
        assert_eq!(w.kv.revision(), revision, "written once");
    }
}

/// The first try of a write was carried out and its answer lost; then, before the second, somebody else wrote.
#[tokio::test(start_paused = true)]
async fn a_write_that_was_overwritten_before_it_was_known_is_no_conflict() {
    let w = world().await;
    create(&*w.pods, "a").await;
    w.kv.fail_next_txn(TxnFault::AnswerLost);
    let (pods, kv) = (w.pods.clone(), w.kv.clone());
    let first = tokio::spawn(async move { write(&pods, "a", "first").await });
    while kv.revision() < 3 {
        tokio::task::yield_now().await;
    }
    let second = write(&w.pods, "a", "second").await.unwrap();
    assert_eq!(second, 4);
    assert_eq!(first.await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_somebody_else_forestalled_is_decided_again() {
    let w = world().await;
    create(&*w.pods, "a").await;
    w.kv.fail_next_txn(TxnFault::RequestLost);
    let (pods, kv) = (w.pods.clone(), w.kv.clone());
    let calls = kv.calls();
    let first = tokio::spawn(async move { write(&pods, "a", "first").await });
    while kv.calls() == calls {
        tokio::task::yield_now().await;
    }
    assert_eq!(write(&w.pods, "a", "second").await.unwrap(), 3);
    assert_eq!(first.await.unwrap().unwrap(), 4, "written over the other's, once");
}

/// Whether it was this object that was created and deleted again cannot be told, and a late first try could still be
/// carried out: the caller is told that nobody knows.
#[tokio::test(start_paused = true)]
async fn a_creation_of_unknown_outcome_is_not_tried_again() {
    let w = world().await;
    w.kv.fail_next_txn(TxnFault::RequestLost);
    let error = w.pods.create("d/a", pod("a"), None, false).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (504, "Timeout"));
    assert!(names(&*w.pods, Freshness::Latest).await.is_empty());
    w.kv.fail_next_txn(TxnFault::AnswerLost);
    let revision = create(&*w.pods, "a").await;
    assert_eq!(w.kv.revision(), revision, "found, not written again");
}

#[tokio::test(start_paused = true)]
async fn watchers_see_every_change_once_across_broken_feeds() {
    let w = world().await;
    let mut events = w.pods.watch("", start(WatchStart::Now)).await.unwrap();
    let mut expected = Vec::new();
    for round in 0..20 {
        if round % 3 == 0 {
            w.kv.cut_watches();
        }
        let name = format!("p{round:02}");
        expected.push(("ADDED", name.clone(), create(&*w.pods, &name).await));
    }
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        seen.push(next(&mut events).await.unwrap());
    }
    assert_eq!(seen, expected);
    assert_eq!(names(&*w.pods, Freshness::Latest).await.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_silent_feed_is_noticed_and_opened_again() {
    let w = world().await;
    w.kv.set_mute(true);
    create(&*w.pods, "a").await;
    // The cache cannot answer, so the store does.
    assert_eq!(names(&*w.pods, Freshness::Latest).await, ["a"]);
    assert!(names(&*w.pods, Freshness::Any).await.is_empty());
    w.kv.set_mute(false);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(names(&*w.pods, Freshness::Any).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_begins_anew_ends_its_watchers() {
    let w = world().await;
    let first = create(&*w.pods, "a").await;
    let mut events = w.pods.watch("", start(WatchStart::StateLatest)).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap().1, "a");
    w.kv.set_mute(true);
    // Created and gone again: no state shows it.
    create(&*w.pods, "b").await;
    let delete = pb::DeleteRangeRequest { key: "/registry/core/pods/d/b".into(), ..Default::default() };
    w.kv.delete_range(delete).await.unwrap();
    let last = create(&*w.pods, "c").await;
    w.kv.compact(pb::CompactionRequest { revision: last, physical: true }).await.unwrap();
    w.kv.set_mute(false);
    w.kv.cut_watches();
    assert_eq!(next(&mut events).await, None, "nothing is told of what may have holes");
    let mut resumed = w.pods.watch("", start(WatchStart::After(first))).await.unwrap();
    assert_eq!(next(&mut resumed).await.unwrap().2, 410);
    let mut events = w.pods.watch("", start(WatchStart::StateLatest)).await.unwrap();
    assert_eq!([next(&mut events).await.unwrap().1, next(&mut events).await.unwrap().1], ["a", "c"]);
    let d = create(&*w.pods, "d").await;
    assert_eq!(next(&mut events).await.unwrap(), ("ADDED", "d".into(), d));
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_ended_and_delays_nobody() {
    let w = world().await;
    let mut slow = w.pods.watch("", start(WatchStart::Now)).await.unwrap();
    let mut fast = w.pods.watch("", start(WatchStart::Now)).await.unwrap();
    create(&*w.pods, "first").await;
    let last = WATCH_RING_EVENTS_MAX + 1;
    let reader = tokio::spawn(async move {
        let mut seen = 0;
        while seen < last + 1 {
            assert_eq!(next(&mut fast).await.unwrap().0, "ADDED");
            seen += 1;
        }
    });
    for i in 0..last {
        create(&*w.pods, &format!("p{i}")).await;
    }
    reader.await.unwrap();
    assert_eq!(next(&mut slow).await, None);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_each_minute_and_follow_the_store() {
    let w = world().await;
    let nodes = w.cacher.storage(config("nodes"));
    filled(&w.cacher).await;
    let mut events = w.pods.watch("", start(WatchStart::Now)).await.unwrap();
    let begun = tokio::time::Instant::now();
    // Another resource's write moves the bookmark on.
    let revision = nodes.create("n", json!({"metadata": {"name": "n"}}), None, false).await.unwrap().revision();
    assert_eq!(next(&mut events).await.unwrap(), ("BOOKMARK", String::new(), revision));
    assert!(begun.elapsed() >= BOOKMARK_INTERVAL && begun.elapsed() < BOOKMARK_INTERVAL + Duration::from_secs(1));
    assert_eq!(next(&mut events).await.unwrap().2, revision);
}

#[tokio::test(start_paused = true)]
async fn an_old_start_is_served_by_the_store() {
    let w = world().await;
    let first = create(&*w.pods, "a").await;
    let second = create(&*w.pods, "b").await;
    // Another API server, whose cache begins now.
    let other = Cacher::start(Env::os(), w.kv.clone());
    let pods = other.storage(config("pods"));
    filled(&other).await;
    let mut events = pods.watch("", start(WatchStart::After(first))).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap(), ("ADDED", "b".into(), second));
}

#[tokio::test(start_paused = true)]
async fn events_share_leases() {
    let w = world().await;
    for name in ["a", "b"] {
        w.pods.create(&format!("d/{name}"), pod(name), Some(3600), false).await.unwrap();
    }
    assert_eq!(w.kv.leases().into_values().collect::<Vec<_>>(), [3660]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    w.pods.create("d/c", pod("c"), Some(3600), false).await.unwrap();
    let leases = w.kv.leases();
    assert_eq!(leases.len(), 2);
    // A lease that expired meanwhile is replaced, and takes its keys with it.
    let mut events = w.pods.watch("", start(WatchStart::Now)).await.unwrap();
    w.kv.lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await.unwrap();
    assert_eq!(next(&mut events).await.unwrap().0, "DELETED");
    assert_eq!(next(&mut events).await.unwrap().0, "DELETED");
    w.kv.lease_revoke(pb::LeaseRevokeRequest { id: 2 }).await.unwrap();
    w.pods.create("d/e", pod("e"), Some(3600), false).await.unwrap();
    assert_eq!(names(&*w.pods, Freshness::Latest).await, ["e"]);
}

#[tokio::test(start_paused = true)]
async fn lists_read_one_revision_and_no_objects_from_the_store() {
    let w = world().await;
    for i in 0..50 {
        create(&*w.pods, &format!("p{i:02}")).await;
    }
    let before = w.kv.calls();
    let first = w.pods.list("", ListOptions { limit: 20, ..ListOptions::default() }).await.unwrap();
    let again = w.pods.list("", ListOptions { limit: 20, ..ListOptions::default() }).await.unwrap();
    assert_eq!(w.kv.calls(), before + 2);
    // The same encoded bytes are shared by all answers.
    assert_eq!(first.objects[0].json().as_ptr(), again.objects[0].json().as_ptr());
    let options = ListOptions { limit: 20, continue_token: first.continue_token, ..ListOptions::default() };
    assert_eq!(w.pods.list("", options).await.unwrap().objects.len(), 20);
    assert_eq!(w.kv.calls(), before + 2);
}

#[tokio::test(start_paused = true)]
async fn only_one_of_several_servers_compacts() {
    let w = world().await;
    let mut one = keelstone_storage::Compactor::new(w.kv.clone());
    let mut two = keelstone_storage::Compactor::new(w.kv.clone());
    assert_eq!(one.round().await.unwrap(), None);
    assert_eq!(two.round().await.unwrap(), None);
    let kept = w.kv.revision();
    create(&*w.pods, "a").await;
    create(&*w.pods, "b").await;
    let compacted = one.round().await.unwrap();
    assert!(compacted.is_some_and(|r| r <= kept), "{compacted:?}");
    assert_eq!(two.round().await.unwrap(), None);
    let list = |revision| ListOptions { freshness: Freshness::Exact(revision), ..ListOptions::default() };
    assert!(w.pods.list("", list(kept)).await.is_ok());
}
