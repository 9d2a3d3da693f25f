use std::sync::Arc;

use keelstone_machinery::status::ApiStatus;
use keelstone_storage::{
    constants::OBJECT_BYTES_MAX, Freshness, Outcome, Preconditions, Storage, StoredObject, Verdict,
};

use super::help::{create, delete, list, pod, set_label, By};

pub async fn create_get_delete(s: &dyn Storage) {
    let made = create(s, "w1/a").await;
    let read = s.get("w1/a", Freshness::Latest).await.unwrap();
    assert_eq!(read.value(), made.value());
    assert_eq!(read.value()["metadata"]["resourceVersion"], made.revision().to_string());
    assert!(s.revision().await.unwrap() >= made.revision());
    let gone = delete(s, "w1/a").await;
    assert!(gone.revision() > made.revision());
    let error = s.get("w1/a", Freshness::Latest).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (404, "pods \"a\" not found"));
}

pub async fn a_second_create_is_refused(s: &dyn Storage) {
    create(s, "w2/a").await;
    let error = s.create("w2/a", pod("w2", "a"), None, false).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(error.message, "pods \"a\" already exists");
}

pub async fn updates_are_compare_and_set(s: &dyn Storage) {
    let first = create(s, "w3/a").await;
    let second = set_label(s, "w3/a", "1").await;
    assert!(second.revision() > first.revision());
    // An update may create, and be refused by what it returns.
    let mut upsert = By(|current: Option<&StoredObject>| {
        assert!(current.is_none());
        Ok(Verdict::Write { object: pod("w3", "b"), ttl_s: None })
    });
    let outcome = s.update("w3/b", &Preconditions::default(), &mut upsert, false).await.unwrap();
    assert!(matches!(outcome, Outcome::Created(_)));
    let mut refuse = By(|_: Option<&StoredObject>| Err(ApiStatus::bad_request("no")));
    let error = s.update("w3/a", &Preconditions::default(), &mut refuse, false).await.unwrap_err();
    assert_eq!(error.message, "no");
    let mut absent = By(|_: Option<&StoredObject>| Ok(Verdict::Delete));
    let outcome = s.update("w3/none", &Preconditions::default(), &mut absent, false).await.unwrap();
    assert!(matches!(outcome, Outcome::Unchanged(None)));
    assert_eq!(list(s, "w3/").await.0.len(), 2);
}

pub async fn preconditions_are_checked(s: &dyn Storage) {
    let made = create(s, "w4/a").await;
    let wrong_uid = Preconditions { uid: Some("other".into()), resource_version: None };
    let mut remove = By(|_: Option<&StoredObject>| Ok(Verdict::Delete));
    let error = s.update("w4/a", &wrong_uid, &mut remove, false).await.unwrap_err();
    assert_eq!(
        error.message,
        "Operation cannot be fulfilled on pods \"a\": Precondition failed: UID in precondition: other, UID in object \
         meta: uid-a"
    );
    let right = Preconditions { uid: Some("uid-a".into()), resource_version: Some(made.revision().to_string()) };
    set_label(s, "w4/a", "1").await;
    let error = s.update("w4/a", &right, &mut remove, false).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (409, "Conflict"));
    s.get("w4/a", Freshness::Latest).await.unwrap();
}

pub async fn equal_content_is_not_written(s: &dyn Storage) {
    let made = create(s, "w5/a").await;
    let again = set_label(s, "w5/a", "0").await;
    assert_eq!(again.revision(), made.revision());
}

pub async fn a_dry_run_changes_nothing(s: &dyn Storage) {
    s.create("w6/a", pod("w6", "a"), None, true).await.unwrap();
    assert_eq!(s.get("w6/a", Freshness::Latest).await.unwrap_err().code, 404);
    let made = create(s, "w6/a").await;
    assert_eq!(s.create("w6/a", pod("w6", "a"), None, true).await.unwrap_err().code, 409);
    let mut remove = By(|_: Option<&StoredObject>| Ok(Verdict::Delete));
    let outcome = s.update("w6/a", &Preconditions::default(), &mut remove, true).await.unwrap();
    assert!(matches!(outcome, Outcome::Deleted(_)));
    assert_eq!(s.get("w6/a", Freshness::Latest).await.unwrap().revision(), made.revision());
}

pub async fn concurrent_updates_all_count(storage: &Arc<dyn Storage>) {
    const WRITERS: u64 = 8;
    const WRITES: u64 = 5;
    let mut object = pod("w7", "a");
    object["count"] = 0.into();
    storage.create("w7/a", object, None, false).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let storage = storage.clone();
            tokio::spawn(async move {
                for _ in 0..WRITES {
                    let mut count = By(|current: Option<&StoredObject>| {
                        let mut object = current.expect("exists").value().clone();
                        object["count"] = (object["count"].as_u64().unwrap() + 1).into();
                        Ok(Verdict::Write { object, ttl_s: None })
                    });
                    storage.update("w7/a", &Preconditions::default(), &mut count, false).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let object = storage.get("w7/a", Freshness::Latest).await.unwrap();
    assert_eq!(object.value()["count"], WRITERS * WRITES);
}

pub async fn too_large_objects_are_refused(s: &dyn Storage) {
    let mut object = pod("w8", "a");
    object["data"] = "x".repeat(OBJECT_BYTES_MAX).into();
    assert_eq!(s.create("w8/a", object.clone(), None, false).await.unwrap_err().code, 413);
    object["data"] = "x".repeat(OBJECT_BYTES_MAX - 200).into();
    s.create("w8/a", object, None, false).await.unwrap();
}
