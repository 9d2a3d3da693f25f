//! Calls, errors and informers against an API in memory, on a virtual clock.

mod fake;

use std::time::Duration;

use fake::{FakeApi, Fault};
use futures::StreamExt;
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use keelstone_client::{
    DeleteOptions, DynamicObject, Index, Informer, InformerOptions, ListOptions, Object, Patch, PatchOptions,
    StoreEvent, WatchEvent, WatchOptions,
};
use keelstone_machinery::gvk::GroupVersionResource;
use serde_json::json;

fn config(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "data": {"k": value}})).unwrap()
}

#[tokio::test(start_paused = true)]
async fn objects_are_created_read_changed_and_deleted() {
    let api = FakeApi::new();
    let maps = api.client().named("tester").namespaced::<ConfigMap>("n");
    let made = maps.create(&config("a", "1")).await.unwrap();
    assert_eq!(made.resource_version(), "101");
    assert!(maps.create(&config("a", "1")).await.unwrap_err().is_already_exists());
    let stale = made.clone();
    let patch = Patch::Merge(json!({"data": {"k": "2"}}));
    let patched = maps.patch("a", &patch, &PatchOptions::default()).await.unwrap();
    assert_eq!(patched.data.unwrap()["k"], "2");
    assert!(maps.update(&stale).await.unwrap_err().is_conflict());
    assert!(maps.delete("a", &DeleteOptions::uid("other")).await.unwrap_err().is_conflict());
    assert_eq!(maps.delete("a", &DeleteOptions::uid(made.uid())).await.unwrap(), None);
    let error = maps.get("a").await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "configmaps \"a\" not found");
    assert_eq!(maps.get_opt("a").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn pages_make_one_list_and_dynamic_items_know_their_type() {
    let api = FakeApi::new();
    for i in 0..7 {
        api.put(
            "configmaps",
            json!({"metadata": {"name": format!("c{i}"), "namespace": "n", "labels": {"odd": (i % 2).to_string()}}}),
        );
    }
    let maps = api.client().resource::<ConfigMap>();
    let options = ListOptions { limit: Some(2), ..ListOptions::default() };
    let names: Vec<String> = maps.list_all(&options).await.unwrap().items.iter().map(|m| m.name().into()).collect();
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
    let odd = maps.list_all(&options.clone().labels("odd=1")).await.unwrap();
    assert_eq!(odd.items.len(), 3);
    let dynamic = api.client().dynamic(&GroupVersionResource::new("", "v1", "configmaps")).within("n");
    let item: DynamicObject = dynamic.list(&ListOptions::default()).await.unwrap().items.remove(0);
    assert_eq!(item.0["apiVersion"], "v1");
}

#[tokio::test(start_paused = true)]
async fn what_happened_to_a_write_is_told_apart() {
    let api = FakeApi::new();
    let maps = api.client().namespaced::<ConfigMap>("n");
    api.fail_next(Method::POST, Fault::Refuse);
    let refused = maps.create(&config("a", "1")).await.unwrap_err();
    assert!(!refused.is_outcome_unknown(), "{refused:?}");
    api.fail_next(Method::POST, Fault::LoseAnswer);
    assert!(maps.create(&config("a", "1")).await.unwrap_err().is_outcome_unknown());
    assert!(api.get("configmaps", "n", "a").is_some());
    api.fail_next(Method::POST, Fault::Hang);
    assert!(maps.create(&config("b", "1")).await.unwrap_err().is_outcome_unknown());
    api.fail_next(Method::GET, Fault::Hang);
    assert!(!maps.get("a").await.unwrap_err().is_outcome_unknown());
}

#[tokio::test(start_paused = true)]
async fn a_watch_delivers_changes_in_order() {
    let api = FakeApi::new();
    let maps = api.client().resource::<ConfigMap>();
    let options = WatchOptions { resource_version: Some("100".into()), ..WatchOptions::default() };
    let mut events = maps.watch(&options).await.unwrap();
    api.put("configmaps", json!({"metadata": {"name": "a", "namespace": "n"}}));
    api.put("configmaps", json!({"metadata": {"name": "a", "namespace": "n"}, "data": {"k": "v"}}));
    api.remove("configmaps", "n", "a");
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        match events.next().await.unwrap().unwrap() {
            WatchEvent::Added(o) => kinds.push(format!("added {}", o.resource_version())),
            WatchEvent::Modified(o) => kinds.push(format!("modified {}", o.resource_version())),
            WatchEvent::Deleted(o) => kinds.push(format!("deleted {}", o.resource_version())),
            WatchEvent::Bookmark { .. } => {}
        }
    }
    assert_eq!(kinds, ["added 101", "modified 102", "deleted 103"]);
    api.compact();
    assert!(maps.watch(&options).await.err().unwrap().is_gone());
}

#[tokio::test(start_paused = true)]
async fn an_informer_follows_through_faults_and_never_rewinds() {
    let api = FakeApi::new();
    api.put("pods", json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "x"}}));
    api.fail_next(Method::GET, Fault::Unavailable);
    let informer = Informer::spawn(api.client().resource::<Pod>(), InformerOptions::default());
    let store = informer.store().clone();
    store.add_index(Index::new("node", |pod: &Pod| pod.spec.iter().filter_map(|s| s.node_name.clone()).collect()));
    informer.wait_synced().await;
    assert_eq!(store.keys(), ["n/a"]);
    let mut changes = store.subscribe();
    assert!(matches!(changes.next().await, StoreEvent::Resync));

    api.put("pods", json!({"metadata": {"name": "b", "namespace": "n"}, "spec": {"nodeName": "x"}}));
    assert!(matches!(changes.next().await, StoreEvent::Added(pod) if pod.name() == "b"));
    assert_eq!(store.by_index("node", "x").len(), 2);
    api.put("pods", json!({"metadata": {"name": "b", "namespace": "n"}, "spec": {"nodeName": "y"}}));
    store.wait_for(&api.revision().to_string(), Duration::from_secs(1)).await.unwrap();
    assert_eq!(store.by_index("node", "y")[0].name(), "b");
    assert_eq!(store.by_index("node", "x").len(), 1);

    // Broken watches resume without a list; a compaction in between forces a list, not older than what was seen.
    let lists = api.lists().len();
    api.break_watches();
    api.remove("pods", "n", "a");
    store.wait_for(&api.revision().to_string(), Duration::from_secs(5)).await.unwrap();
    assert_eq!((store.keys(), api.lists().len()), (vec!["n/b".to_owned()], lists));
    api.fail_all(Some(Fault::Unavailable));
    api.break_watches();
    let seen = store.version();
    api.put("pods", json!({"metadata": {"name": "c", "namespace": "n"}}));
    api.remove("pods", "n", "b");
    api.compact();
    tokio::time::sleep(Duration::from_secs(20)).await;
    api.fail_all(None);
    store.wait_for(&api.revision().to_string(), Duration::from_secs(30)).await.unwrap();
    assert_eq!(store.keys(), ["n/c"]);
    assert_eq!(api.lists().last().unwrap(), &format!("pods?resourceVersion={seen}&resourceVersionMatch=NotOlderThan"));
    assert!(!store.replace(Vec::new(), seen), "an older list was taken over");
    assert_eq!(store.keys(), ["n/c"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_is_told_to_resync() {
    let api = FakeApi::new();
    let informer = Informer::spawn(api.client().resource::<Pod>(), InformerOptions::labels("take=yes"));
    let store = informer.store().clone();
    store.wait_synced().await;
    let mut changes = store.subscribe_bounded(3);
    changes.next().await;
    for i in 0..5 {
        api.put("pods", json!({"metadata": {"name": format!("p{i}"), "namespace": "n", "labels": {"take": "yes"}}}));
    }
    api.put("pods", json!({"metadata": {"name": "other", "namespace": "n"}}));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(changes.next().await, StoreEvent::Resync));
    assert_eq!(store.len(), 5);
    // An object that leaves the selection is gone.
    api.put("pods", json!({"metadata": {"name": "p0", "namespace": "n"}}));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.len(), 4);
}
