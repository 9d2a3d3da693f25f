use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use keelstone_machinery::status::ApiResult;
use keelstone_storage::{
    ListOptions, Outcome, Preconditions, Storage, StoredObject, Update, Verdict, WatchEvent, WatchEvents,
};
use serde_json::{json, Value};

pub fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}"), "labels": {"n": "0"}},
    })
}

pub async fn create(storage: &dyn Storage, key: &str) -> StoredObject {
    let (namespace, name) = key.split_once('/').unwrap();
    storage.create(key, pod(namespace, name), None, false).await.unwrap()
}

/// An update by a function.
pub struct By<F>(pub F);

#[async_trait]
impl<F: FnMut(Option<&StoredObject>) -> ApiResult<Verdict> + Send> Update for By<F> {
    async fn update(&mut self, current: Option<&StoredObject>) -> ApiResult<Verdict> {
        (self.0)(current)
    }
}

pub async fn set_label(storage: &dyn Storage, key: &str, value: &str) -> StoredObject {
    let mut update = By(|current: Option<&StoredObject>| {
        let mut object = current.expect("exists").value().clone();
        object["metadata"]["labels"]["n"] = value.into();
        Ok(Verdict::Write { object, ttl_s: None })
    });
    let outcome = storage.update(key, &Preconditions::default(), &mut update, false).await.unwrap();
    outcome.into_object().unwrap()
}

pub async fn delete(storage: &dyn Storage, key: &str) -> StoredObject {
    let mut update = By(|_: Option<&StoredObject>| Ok(Verdict::Delete));
    match storage.update(key, &Preconditions::default(), &mut update, false).await.unwrap() {
        Outcome::Deleted(object) => object,
        other => panic!("{other:?}"),
    }
}

pub async fn list(storage: &dyn Storage, prefix: &str) -> (Vec<StoredObject>, i64) {
    let page = storage.list(prefix, ListOptions::default()).await.unwrap();
    assert!(page.continue_token.is_empty());
    (page.objects, page.revision)
}

pub fn names(objects: &[StoredObject]) -> Vec<&str> {
    objects.iter().map(|o| o.value()["metadata"]["name"].as_str().unwrap()).collect()
}

/// The next event, in a short form: `ADDED a@5`.
pub async fn event(events: &mut WatchEvents) -> String {
    let event = tokio::time::timeout(Duration::from_secs(5), events.next()).await.expect("an event in time");
    show(&event.expect("the watch goes on"))
}

pub fn show(event: &WatchEvent) -> String {
    let of = |kind: &str, o: &StoredObject| {
        let metadata = &o.value()["metadata"];
        assert_eq!(metadata["resourceVersion"], o.revision().to_string());
        format!("{kind} {}@{} n={}", o.key(), o.revision(), metadata["labels"]["n"].as_str().unwrap())
    };
    match event {
        WatchEvent::Added(o) => of("ADDED", o),
        WatchEvent::Modified(o) => of("MODIFIED", o),
        WatchEvent::Deleted(o) => of("DELETED", o),
        WatchEvent::Bookmark { revision, initial_events_end } => format!("BOOKMARK {revision} {initial_events_end}"),
        WatchEvent::Error(error) => format!("ERROR {}", error.code),
    }
}
