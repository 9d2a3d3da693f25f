//! The law of the watch cache: whatever is written and whatever breaks, once all is quiet the cache is the
//! store, and a watcher that followed events and started again when told so has the same state.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_machinery::gvk::GroupResource;
use keelstone_storage::{
    testing::MemoryKv, CachedStorage, Cacher, Freshness, ListOptions, Storage, StorageConfig, WatchEvent, WatchOptions,
    WatchStart,
};
use keelstone_store_client::EtcdKv;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Delete(u8),
    /// One deletion of two keys at one revision, as an expired lease makes.
    DeleteTwo(u8),
    Elsewhere,
    Cut,
    Mute,
    Unmute,
    Compact,
    Pause(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..6_u8).prop_map(Step::Put),
        4 => (0..6_u8).prop_map(Step::Delete),
        1 => (0..5_u8).prop_map(Step::DeleteTwo),
        1 => Just(Step::Elsewhere),
        2 => Just(Step::Cut),
        1 => Just(Step::Mute),
        2 => Just(Step::Unmute),
        1 => Just(Step::Compact),
        4 => (0..9_000_u16).prop_map(Step::Pause),
    ];
    prop::collection::vec(step, 1..60)
}

fn pods() -> StorageConfig {
    StorageConfig::new(GroupResource { group: String::new(), resource: "pods".into() })
}

fn key(n: u8) -> String {
    format!("/registry/core/pods/d/{n}")
}

async fn perform(kv: &MemoryKv, step: &Step) {
    let put = |key: String| pb::PutRequest {
        key: key.into(),
        value: "kso\u{1}{\"metadata\":{}}".into(),
        ..Default::default()
    };
    match step {
        Step::Put(n) => drop(kv.put(put(key(*n))).await),
        Step::Elsewhere => drop(kv.put(put("/elsewhere".into())).await),
        Step::Delete(n) => {
            drop(kv.delete_range(pb::DeleteRangeRequest { key: key(*n).into(), ..Default::default() }).await);
        }
        Step::DeleteTwo(n) => {
            let request =
                pb::DeleteRangeRequest { key: key(*n).into(), range_end: key(*n + 2).into(), ..Default::default() };
            drop(kv.delete_range(request).await);
        }
        Step::Cut => kv.cut_watches(),
        Step::Mute => kv.set_mute(true),
        Step::Unmute => kv.set_mute(false),
        Step::Compact => {
            let revision = kv.revision();
            drop(kv.compact(pb::CompactionRequest { revision, physical: true }).await);
        }
        Step::Pause(ms) => tokio::time::sleep(Duration::from_millis(u64::from(*ms))).await,
    }
}

type Seen = Arc<std::sync::Mutex<BTreeMap<String, i64>>>;

/// Follows the resource as an informer does.
async fn inform(pods: Arc<CachedStorage>, seen: Seen) {
    let mut from: Option<i64> = None;
    loop {
        let revision = match from {
            Some(revision) => revision,
            None => {
                let Ok(page) = pods.list("", ListOptions::default()).await else { continue };
                *seen.lock().unwrap() = page.objects.iter().map(|o| (o.key().to_owned(), o.revision())).collect();
                page.revision
            }
        };
        from = Some(revision);
        let options = WatchOptions { start: WatchStart::After(revision), bookmarks: true, ..Default::default() };
        let mut events = match pods.watch("", options).await {
            Ok(events) => events,
            Err(error) => {
                if error.is_expired() {
                    from = None;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        while let Some(event) = events.next().await {
            let mut seen = seen.lock().unwrap();
            match event {
                WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                    assert!(Some(o.revision()) >= from, "the watch went back");
                    from = Some(o.revision());
                    seen.insert(o.key().to_owned(), o.revision());
                }
                WatchEvent::Deleted(o) => {
                    assert!(Some(o.revision()) >= from, "the watch went back");
                    from = Some(o.revision());
                    assert!(seen.remove(o.key()).is_some(), "deleted what was not there");
                }
                WatchEvent::Bookmark { revision, .. } => {
                    assert!(Some(revision) >= from, "the bookmark went back");
                    from = Some(revision);
                }
                WatchEvent::Error(_) => {
                    from = None;
                    break;
                }
            }
        }
    }
}

async fn check(steps: Vec<Step>) {
    let kv = MemoryKv::new();
    let cacher = Cacher::start(Env::os(), kv.clone());
    let pods_storage = cacher.storage(pods());
    let direct = cacher.direct(pods());
    let seen = Seen::default();
    let informer = tokio::spawn(inform(pods_storage.clone(), seen.clone()));
    let mut newest = 0;
    for step in &steps {
        perform(&kv, step).await;
        let any = ListOptions { freshness: Freshness::Any, ..ListOptions::default() };
        if let Ok(page) = pods_storage.list("", any).await {
            assert!(page.revision >= newest, "the cache went back");
            newest = page.revision;
        }
    }
    kv.set_mute(false);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let state = |objects: &[keelstone_storage::StoredObject]| -> BTreeMap<String, i64> {
        objects.iter().map(|o| (o.key().to_owned(), o.revision())).collect()
    };
    let truth = state(&direct.list("", ListOptions::default()).await.unwrap().objects);
    for freshness in [Freshness::Latest, Freshness::Any] {
        let page = pods_storage.list("", ListOptions { freshness, ..ListOptions::default() }).await.unwrap();
        assert_eq!(state(&page.objects), truth, "{freshness:?}");
    }
    assert!(!informer.is_finished(), "the informer failed");
    assert_eq!(*seen.lock().unwrap(), truth, "the watcher");
    informer.abort();
}

/// The feed had told of a revision that did not concern the resource.
#[test]
fn a_cache_that_is_filled_again_does_not_go_back() {
    let mut steps = vec![Step::Put(0), Step::Pause(1), Step::Elsewhere, Step::Mute, Step::Pause(5_000)];
    steps.extend([Step::Put(0), Step::Compact]);
    steps.extend(vec![Step::Pause(10); 500]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(check(steps));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_cache_and_its_watchers_end_where_the_store_is(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(check(steps));
    }
}
