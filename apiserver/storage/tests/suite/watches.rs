use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use keelstone_etcd_api::pb;
use keelstone_storage::{Predicate, Storage, WatchEvent, WatchOptions, WatchStart};
use keelstone_store_client::EtcdKv;

use super::help::{create, delete, event, list, set_label};

fn start(start: WatchStart) -> WatchOptions {
    WatchOptions { start, bookmarks: true, ..WatchOptions::default() }
}

pub async fn from_a_revision_in_order(s: &dyn Storage) {
    let a = create(s, "e1/a").await;
    let b = create(s, "e1/b").await;
    let changed = set_label(s, "e1/a", "1").await;
    create(s, "e10/x").await;
    let mut events = s.watch("e1/", start(WatchStart::After(a.revision()))).await.unwrap();
    assert_eq!(event(&mut events).await, format!("ADDED e1/b@{} n=0", b.revision()));
    assert_eq!(event(&mut events).await, format!("MODIFIED e1/a@{} n=1", changed.revision()));
    let gone = delete(s, "e1/a").await;
    assert_eq!(event(&mut events).await, format!("DELETED e1/a@{} n=1", gone.revision()));
    let again = create(s, "e1/a").await;
    assert_eq!(event(&mut events).await, format!("ADDED e1/a@{} n=0", again.revision()));
}

pub async fn state_then_changes(s: &dyn Storage) {
    let a = create(s, "e2/a").await;
    let mut events = s.watch("e2/", start(WatchStart::StateLatest)).await.unwrap();
    assert_eq!(event(&mut events).await, format!("ADDED e2/a@{} n=0", a.revision()));
    let changed = set_label(s, "e2/a", "1").await;
    assert_eq!(event(&mut events).await, format!("MODIFIED e2/a@{} n=1", changed.revision()));
    let mut now = s.watch("e2/", start(WatchStart::Now)).await.unwrap();
    let b = create(s, "e2/b").await;
    assert_eq!(event(&mut now).await, format!("ADDED e2/b@{} n=0", b.revision()));
    // resourceVersion 0: some state, then everything that follows it.
    let mut any = s.watch("e2/", start(WatchStart::StateAny)).await.unwrap();
    let mut seen = BTreeMap::new();
    while seen.len() < 2 {
        match tokio::time::timeout(Duration::from_secs(5), any.next()).await.unwrap().unwrap() {
            WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                seen.insert(o.key().to_owned(), o.revision());
            }
            other => panic!("{other:?}"),
        }
    }
}

pub async fn initial_events_end_in_a_bookmark(s: &dyn Storage) {
    let a = create(s, "e3/a").await;
    let b = create(s, "e3/b").await;
    for initial in [None, Some(b.revision())] {
        let mut events = s.watch("e3/", start(WatchStart::StateThenBookmark(initial))).await.unwrap();
        assert_eq!(event(&mut events).await, format!("ADDED e3/a@{} n=0", a.revision()));
        assert_eq!(event(&mut events).await, format!("ADDED e3/b@{} n=0", b.revision()));
        let bookmark = event(&mut events).await;
        let revision: i64 = bookmark.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(bookmark.ends_with(" true") && revision >= b.revision(), "{bookmark}");
    }
}

pub async fn selectors_make_arrivals_and_departures(s: &dyn Storage) {
    let a = create(s, "e4/a").await;
    let predicate = Predicate::new(|o| o["metadata"]["labels"]["n"] == "yes");
    let options = WatchOptions { predicate, ..start(WatchStart::After(a.revision())) };
    let mut events = s.watch("e4/", options).await.unwrap();
    set_label(s, "e4/a", "no").await;
    let arrived = set_label(s, "e4/a", "yes").await;
    let left = set_label(s, "e4/a", "no").await;
    delete(s, "e4/a").await;
    create(s, "e4/b").await;
    let other = set_label(s, "e4/b", "yes").await;
    let gone = delete(s, "e4/b").await;
    assert_eq!(event(&mut events).await, format!("ADDED e4/a@{} n=yes", arrived.revision()));
    assert_eq!(event(&mut events).await, format!("DELETED e4/a@{} n=yes", left.revision()));
    assert_eq!(event(&mut events).await, format!("ADDED e4/b@{} n=yes", other.revision()));
    assert_eq!(event(&mut events).await, format!("DELETED e4/b@{} n=yes", gone.revision()));
}

pub async fn a_timeout_ends_the_watch(s: &dyn Storage) {
    let options = WatchOptions { timeout: Some(Duration::from_millis(50)), ..start(WatchStart::StateLatest) };
    let mut events = s.watch("e5/", options).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(5), events.next()).await.expect("ends in time");
    assert!(end.is_none(), "{end:?}");
}

/// A list and a watch from its revision give the state, whenever they are taken.
pub async fn list_then_watch_is_the_state(storage: &Arc<dyn Storage>) {
    let writer = {
        let storage = storage.clone();
        tokio::spawn(async move {
            for round in 0..30 {
                let key = format!("e6/{}", round % 7);
                match round % 3 {
                    0 => drop(storage.create(&key, super::help::pod("e6", &key[3..]), None, false).await),
                    1 if storage.get(&key, keelstone_storage::Freshness::Latest).await.is_ok() => {
                        set_label(&*storage, &key, &round.to_string()).await;
                    }
                    _ if storage.get(&key, keelstone_storage::Freshness::Latest).await.is_ok() => {
                        delete(&*storage, &key).await;
                    }
                    _ => {}
                }
            }
            create(&*storage, "e6/last").await.revision()
        })
    };
    let (objects, revision) = list(&**storage, "e6/").await;
    let mut state: BTreeMap<String, i64> = objects.iter().map(|o| (o.key().to_owned(), o.revision())).collect();
    let mut events = storage.watch("e6/", start(WatchStart::After(revision))).await.unwrap();
    let mut last = revision;
    loop {
        match tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("in time").unwrap() {
            WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                assert!(o.revision() > last);
                last = o.revision();
                state.insert(o.key().to_owned(), o.revision());
                if o.key() == "e6/last" {
                    break;
                }
            }
            WatchEvent::Deleted(o) => {
                assert!(o.revision() > last);
                last = o.revision();
                assert!(state.remove(o.key()).is_some(), "deleted what was not there");
            }
            WatchEvent::Bookmark { .. } => {}
            WatchEvent::Error(error) => panic!("{error}"),
        }
    }
    assert_eq!(writer.await.unwrap(), last);
    let (objects, _) = list(&**storage, "e6/").await;
    let now: BTreeMap<String, i64> = objects.iter().map(|o| (o.key().to_owned(), o.revision())).collect();
    assert_eq!(state, now);
}

/// A cache may still know what the store has forgotten; what neither knows is expired.
pub async fn compacted_starts_are_expired(s: &dyn Storage, kv: &dyn EtcdKv) {
    let made = create(s, "e7/a").await;
    let revision = s.revision().await.unwrap();
    kv.compact(pb::CompactionRequest { revision, physical: true }).await.ok();
    match s.watch("e7/", start(WatchStart::After(1))).await {
        Err(error) => assert_eq!(error.code, 410),
        Ok(mut events) => {
            let first = event(&mut events).await;
            assert!(first == "ERROR 410" || first == format!("ADDED e7/a@{} n=0", made.revision()), "{first}");
        }
    }
}
