use std::time::Duration;

use keelstone_etcd_api::pb;
use keelstone_storage::{Freshness, ListOptions, Predicate, Storage};
use keelstone_store_client::EtcdKv;

use super::help::{create, delete, list, names, set_label};

fn limited(limit: usize, token: &str) -> ListOptions {
    ListOptions { limit, continue_token: token.to_owned(), ..ListOptions::default() }
}

pub async fn pages_are_one_snapshot(s: &dyn Storage) {
    for name in ["a", "a-b", "b", "c", "d"] {
        create(s, &format!("l1/{name}")).await;
    }
    create(s, "l10/z").await;
    let first = s.list("l1/", limited(2, "")).await.unwrap();
    assert_eq!(names(&first.objects), ["a", "a-b"]);
    assert_eq!(first.remaining, Some(3));
    // What happens meanwhile is not seen.
    delete(s, "l1/c").await;
    create(s, "l1/bb").await;
    set_label(s, "l1/d", "1").await;
    let second = s.list("l1/", limited(2, &first.continue_token)).await.unwrap();
    assert_eq!(names(&second.objects), ["b", "c"]);
    assert_eq!((second.remaining, second.revision), (Some(1), first.revision));
    let third = s.list("l1/", limited(2, &second.continue_token)).await.unwrap();
    assert_eq!(names(&third.objects), ["d"]);
    assert_eq!(third.objects[0].value()["metadata"]["labels"]["n"], "0");
    assert_eq!((third.remaining, third.continue_token.as_str()), (None, ""));
    assert_eq!(names(&list(s, "l1/").await.0), ["a", "a-b", "b", "bb", "d"]);
    let whole = s.list("l1/", limited(5, "")).await.unwrap();
    assert!(whole.continue_token.is_empty() && whole.remaining.is_none());
    assert_eq!(s.list("l1/", limited(2, "nonsense")).await.unwrap_err().code, 400);
    let json: serde_json::Value = serde_json::from_slice(&first.to_json("v1", "PodList")).unwrap();
    assert_eq!(json["items"][1]["metadata"]["name"], "a-b");
    assert_eq!(json["metadata"]["remainingItemCount"], 3);
    assert_eq!((&json["kind"], &json["apiVersion"]), (&"PodList".into(), &"v1".into()));
}

pub async fn selectors_and_single_keys(s: &dyn Storage) {
    for name in ["a", "b", "c", "d"] {
        create(s, &format!("l2/{name}")).await;
    }
    set_label(s, "l2/b", "yes").await;
    set_label(s, "l2/d", "yes").await;
    let predicate = Predicate::new(|o| o["metadata"]["labels"]["n"] == "yes");
    let options = ListOptions { predicate: predicate.clone(), limit: 1, ..ListOptions::default() };
    let first = s.list("l2/", options.clone()).await.unwrap();
    assert_eq!((names(&first.objects), first.remaining), (vec!["b"], None));
    let second = s.list("l2/", ListOptions { continue_token: first.continue_token.clone(), ..options }).await.unwrap();
    assert_eq!(names(&second.objects), ["d"]);
    for (key, found) in [("l2/b", 1), ("l2/a", 0), ("l2/none", 0), ("l1/a", 0)] {
        let options = ListOptions { predicate: predicate.clone().only_key(key.into()), ..ListOptions::default() };
        let page = s.list("l2/", options).await.unwrap();
        assert_eq!(page.objects.len(), found, "{key}");
        assert!(page.revision > 0);
    }
}

pub async fn resource_versions(s: &dyn Storage) {
    let a = create(s, "l3/a").await;
    let b = create(s, "l3/b").await;
    let at = |freshness| ListOptions { freshness, ..ListOptions::default() };
    let exact = s.list("l3/", at(Freshness::Exact(a.revision()))).await.unwrap();
    assert_eq!((names(&exact.objects), exact.revision), (vec!["a"], a.revision()));
    let newer = s.list("l3/", at(Freshness::NotOlderThan(b.revision()))).await.unwrap();
    assert_eq!(names(&newer.objects), ["a", "b"]);
    assert!(newer.revision >= b.revision());
    assert!(s.list("l3/", at(Freshness::Any)).await.unwrap().revision > 0);
    assert_eq!(s.get("l3/b", Freshness::NotOlderThan(b.revision())).await.unwrap().revision(), b.revision());
    for future in [Freshness::NotOlderThan(b.revision() + 10_000), Freshness::Exact(b.revision() + 10_000)] {
        let error = s.list("l3/", at(future)).await.unwrap_err();
        assert_eq!((error.code, error.causes()[0].reason.as_str()), (504, "ResourceVersionTooLarge"));
        assert!(error.message.starts_with("Timeout: Too large resource version: "), "{}", error.message);
    }
    let (_, revision) = list(s, "l3/").await;
    assert!(revision >= b.revision());
}

pub async fn compaction_expires_continue_tokens(s: &dyn Storage, kv: &dyn EtcdKv) {
    for name in ["a", "b", "c"] {
        create(s, &format!("l4/{name}")).await;
    }
    let first = s.list("l4/", limited(1, "")).await.unwrap();
    // Enough other paginated lists that no snapshot of the first one is left anywhere.
    for value in 0..20 {
        set_label(s, "l4/c", &value.to_string()).await;
        s.list("l4/", limited(1, "")).await.unwrap();
    }
    create(s, "l4/bb").await;
    let revision = s.revision().await.unwrap();
    kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
    let error = s.list("l4/", limited(10, &first.continue_token)).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_str()), (410, "Expired"));
    let inconsistent = error.continue_token.expect("a token to go on with");
    let rest = s.list("l4/", limited(10, &inconsistent)).await.unwrap();
    assert_eq!(names(&rest.objects), ["b", "bb", "c"]);
    let old = ListOptions { freshness: Freshness::Exact(first.revision), ..ListOptions::default() };
    assert_eq!(s.list("l4/", old).await.unwrap_err().code, 410);
    // Let a cache hear of the compaction's neighbourhood before the next case.
    tokio::time::sleep(Duration::from_millis(10)).await;
}
