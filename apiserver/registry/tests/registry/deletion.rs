//! Deletion: grace periods, finalizers, propagation and preconditions.

use crate::common::{create, request, widget, world, World};
use keelstone_machinery::meta;
use keelstone_machinery::status::ApiResult;
use keelstone_registry::{DeleteOptions, Deleted, ListParams, NoHook, Propagation};
use serde_json::{json, Value};

async fn delete(w: &World, name: &str, options: DeleteOptions) -> ApiResult<Deleted> {
    w.widgets.delete(&request(), "d", name, &options, &NoHook).await
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_period_s: Some(seconds), ..DeleteOptions::default() }
}

async fn exists(w: &World, name: &str) -> bool {
    w.widgets.get("d", name, "").await.is_ok()
}

fn graceful(name: &str) -> Value {
    let mut object = widget(name);
    object["spec"]["grace"] = 30.into();
    object
}

fn held(name: &str) -> Value {
    let mut object = widget(name);
    object["metadata"]["finalizers"] = json!(["test.io/hold"]);
    object
}

#[tokio::test]
async fn without_grace_or_finalizers_it_is_gone() {
    let w = world().await;
    let made = create(&w.widgets, widget("a")).await;
    let deleted = delete(&w, "a", DeleteOptions::default()).await.unwrap();
    assert!(deleted.gone && deleted.object.revision() > made.revision());
    let status = deleted.to_status(w.widgets.info());
    assert_eq!(
        (&status["status"], &status["details"]["name"], &status["details"]["kind"]),
        (&json!("Success"), &json!("a"), &json!("widgets"))
    );
    let error = delete(&w, "a", DeleteOptions::default()).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (404, "widgets.test.io \"a\" not found"));
}

#[tokio::test]
async fn a_grace_period_is_noted_and_can_only_get_shorter() {
    let w = world().await;
    create(&w.widgets, graceful("a")).await;
    let first = delete(&w, "a", DeleteOptions::default()).await.unwrap();
    assert!(!first.gone);
    let object = first.object.value();
    assert_eq!((meta::deletion_grace_period_s(object), meta::generation(object)), (Some(30), 2));
    let end = |o: &Value| meta::parse_rfc3339(meta::deletion_timestamp(o).unwrap()).unwrap().0;
    let again = delete(&w, "a", DeleteOptions::default()).await.unwrap();
    assert_eq!(again.object.revision(), first.object.revision());
    let longer = delete(&w, "a", grace(60)).await.unwrap();
    assert_eq!(longer.object.revision(), first.object.revision());
    let shorter = delete(&w, "a", grace(10)).await.unwrap();
    assert_eq!(meta::deletion_grace_period_s(shorter.object.value()), Some(10));
    assert_eq!(end(shorter.object.value()), end(object) - 20);
    assert!(delete(&w, "a", grace(0)).await.unwrap().gone);
    assert!(!exists(&w, "a").await);
}

#[tokio::test]
async fn an_update_cannot_take_the_deletion_back() {
    let w = world().await;
    create(&w.widgets, graceful("a")).await;
    delete(&w, "a", DeleteOptions::default()).await.unwrap();
    let mut change = graceful("a");
    change["spec"]["size"] = 5.into();
    let updated = w.widgets.update(&request(), "d", "a", change, &NoHook).await.unwrap();
    assert!(meta::deletion_timestamp(updated.object.value()).is_some());
    let mut with_finalizer = graceful("a");
    with_finalizer["metadata"]["finalizers"] = json!(["test.io/late"]);
    let error = w.widgets.update(&request(), "d", "a", with_finalizer, &NoHook).await.unwrap_err();
    assert_eq!(
        error.message,
        "Widget.test.io \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the \
         object is being deleted, found new finalizers []string{\"test.io/late\"}"
    );
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_removed() {
    let w = world().await;
    create(&w.widgets, held("a")).await;
    let begun = delete(&w, "a", DeleteOptions::default()).await.unwrap();
    assert!(!begun.gone);
    assert_eq!(meta::deletion_grace_period_s(begun.object.value()), Some(0));
    assert!(!delete(&w, "a", grace(0)).await.unwrap().gone);
    assert!(exists(&w, "a").await);
    let last = w.widgets.update(&request(), "d", "a", widget("a"), &NoHook).await.unwrap();
    assert!(meta::finalizers(last.object.value()).is_empty());
    assert!(!exists(&w, "a").await);
    // Without a deletion, removing finalizers removes nothing else.
    create(&w.widgets, held("b")).await;
    w.widgets.update(&request(), "d", "b", widget("b"), &NoHook).await.unwrap();
    assert!(exists(&w, "b").await);
}

#[tokio::test]
async fn grace_and_finalizers_both_have_to_end() {
    let w = world().await;
    let mut object = held("a");
    object["spec"]["grace"] = 30.into();
    create(&w.widgets, object).await;
    delete(&w, "a", DeleteOptions::default()).await.unwrap();
    let mut freed = widget("a");
    freed["spec"]["grace"] = 30.into();
    w.widgets.update(&request(), "d", "a", freed, &NoHook).await.unwrap();
    assert!(exists(&w, "a").await);
    assert!(delete(&w, "a", grace(0)).await.unwrap().gone);
    assert!(!exists(&w, "a").await);
}

#[tokio::test]
async fn the_propagation_policy_becomes_a_finalizer() {
    let w = world().await;
    for (policy, finalizer) in [(Propagation::Foreground, "foregroundDeletion"), (Propagation::Orphan, "orphan")] {
        create(&w.widgets, widget("a")).await;
        let options = DeleteOptions { propagation_policy: Some(policy), ..DeleteOptions::default() };
        let begun = delete(&w, "a", options).await.unwrap();
        assert_eq!((begun.gone, meta::finalizers(begun.object.value())), (false, vec![finalizer]));
        w.widgets.update(&request(), "d", "a", widget("a"), &NoHook).await.unwrap();
        assert!(!exists(&w, "a").await);
    }
    let mut object = widget("b");
    object["metadata"]["finalizers"] = json!(["orphan"]);
    create(&w.widgets, object).await;
    let options = DeleteOptions { propagation_policy: Some(Propagation::Background), ..DeleteOptions::default() };
    assert!(delete(&w, "b", options).await.unwrap().gone);
}

#[tokio::test]
async fn preconditions_are_checked() {
    let w = world().await;
    let made = create(&w.widgets, widget("a")).await;
    let uid = meta::uid(made.value()).to_owned();
    let wrong = DeleteOptions { precondition_uid: Some("u".into()), ..DeleteOptions::default() };
    assert_eq!(
        delete(&w, "a", wrong).await.unwrap_err().message,
        format!(
            "Operation cannot be fulfilled on widgets.test.io \"a\": the UID in the precondition (u) does not match the \
             UID in record ({uid}). The object might have been deleted and then recreated"
        )
    );
    let old = DeleteOptions { precondition_resource_version: Some("1".into()), ..DeleteOptions::default() };
    assert_eq!(
        delete(&w, "a", old).await.unwrap_err().message,
        format!(
            "Operation cannot be fulfilled on widgets.test.io \"a\": the ResourceVersion in the precondition (1) does not \
             match the ResourceVersion in record ({}). The object might have been modified",
            made.revision()
        )
    );
    let right = DeleteOptions { precondition_uid: Some(uid), ..DeleteOptions::default() };
    assert!(delete(&w, "a", right).await.unwrap().gone);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let w = world().await;
    for name in ["a", "b", "c"] {
        let mut object = widget(name);
        object["metadata"]["labels"] = json!({"keep": (name == "b").to_string()});
        create(&w.widgets, object).await;
    }
    let params = ListParams { label_selector: "keep=false".into(), ..ListParams::default() };
    let gone = w.widgets.delete_collection(&request(), "d", &params, &DeleteOptions::default(), &NoHook).await.unwrap();
    assert_eq!(gone.objects.len(), 2);
    let left = w.widgets.list("d", &ListParams::default()).await.unwrap();
    assert_eq!(left.objects.len(), 1);
    assert_eq!(meta::name(left.objects[0].value()), "b");
}
