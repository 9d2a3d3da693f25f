//! What every [`Engine`] must do; run on all of them. Panics with a message where one does not.
//!
//! An engine is described by a [`Site`]: a function that makes a fresh, empty place, and returns how to open
//! it. Opening it again after the last handle was dropped is what a crash leaves.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, Column, Direction, Engine, Page, RangeRequest, PAGE_BYTES_MAX};

/// Opens the engine at one place, again and again.
pub type Site = Box<dyn Fn() -> Arc<dyn Engine>>;

/// Runs all cases. `fresh_site` is called once for each.
pub fn run(fresh_site: impl Fn() -> Site) {
    let cases: [fn(Site); 11] = [
        empty_engine_answers,
        batch_is_ordered,
        columns_are_apart,
        ranges,
        pages_are_bounded,
        many_at_once,
        delete_range_is_half_open,
        snapshot_is_pinned,
        flush_is_a_durable_boundary,
        durable_meta_follows_flushes,
        crash_leaves_a_batch_boundary,
    ];
    for case in cases {
        case(fresh_site());
    }
}

fn write(engine: &dyn Engine, build: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    build(&mut batch);
    engine.write(batch).expect("write");
}

fn get(engine: &dyn Engine, column: Column, key: &'static str) -> Option<Bytes> {
    engine.get(column, key.as_bytes()).expect("get")
}

fn request(start: &'static str, end: Option<&'static str>, direction: Direction, limit: usize) -> RangeRequest {
    RangeRequest { column: Column::Revisions, start: start.into(), end: end.map(Bytes::from), direction, limit }
}

fn keys(page: &Page) -> Vec<&str> {
    page.pairs.iter().map(|(key, _)| std::str::from_utf8(key).expect("test keys are text")).collect()
}

fn empty_engine_answers(site: Site) {
    let engine = site();
    assert_eq!(get(&*engine, Column::Meta, "a"), None);
    assert_eq!(engine.durable_meta(b"a").expect("durable_meta"), None);
    assert_eq!(engine.range(&request("", None, Direction::Ascending, 10)).expect("range"), Page::default());
    engine.flush().expect("flush of nothing");
    engine.size_bytes().expect("size");
}

fn batch_is_ordered(site: Site) {
    let engine = site();
    write(&*engine, |b| {
        b.put(Column::Index, "a", "1");
        b.put(Column::Index, "a", "2");
        b.put(Column::Index, "b", "1");
        b.delete(Column::Index, "b");
        b.put(Column::Index, "c", "1");
        b.delete_range(Column::Index, "c", "d");
        b.put(Column::Index, "c", "2");
        b.delete(Column::Index, "missing");
    });
    assert_eq!(get(&*engine, Column::Index, "a"), Some("2".into()));
    assert_eq!(get(&*engine, Column::Index, "b"), None);
    assert_eq!(get(&*engine, Column::Index, "c"), Some("2".into()));
}

fn columns_are_apart(site: Site) {
    let engine = site();
    write(&*engine, |b| Column::ALL.into_iter().for_each(|c| b.put(c, "key", c.name())));
    for column in Column::ALL {
        assert_eq!(get(&*engine, column, "key"), Some(column.name().into()));
    }
    write(&*engine, |b| b.delete_range(Column::Leases, "", "z"));
    assert_eq!(get(&*engine, Column::Leases, "key"), None);
    assert_eq!(get(&*engine, Column::Auth, "key"), Some("auth".into()));
}

fn ranges(site: Site) {
    let engine = site();
    write(&*engine, |b| ["a", "b", "b\0", "c", "d"].into_iter().for_each(|k| b.put(Column::Revisions, k, "v")));
    let range = |r: RangeRequest| engine.range(&r).expect("range");
    let all = range(request("", None, Direction::Ascending, 10));
    assert_eq!((keys(&all), all.more), (vec!["a", "b", "b\0", "c", "d"], false));
    let some = range(request("b", Some("d"), Direction::Ascending, 2));
    assert_eq!((keys(&some), some.more), (vec!["b", "b\0"], true));
    let exact = range(request("b", Some("d"), Direction::Ascending, 3));
    assert_eq!((keys(&exact), exact.more), (vec!["b", "b\0", "c"], false));
    let back = range(request("b", Some("d"), Direction::Descending, 2));
    assert_eq!((keys(&back), back.more), (vec!["c", "b\0"], true));
    let back = range(request("aa", None, Direction::Descending, 10));
    assert_eq!((keys(&back), back.more), (vec!["d", "c", "b\0", "b"], false));
    assert_eq!(range(request("c", Some("c"), Direction::Ascending, 10)), Page::default());
    assert_eq!(range(request("d", Some("a"), Direction::Descending, 10)), Page::default());
    let none = range(request("a", None, Direction::Ascending, 0));
    assert_eq!((keys(&none), none.more), (vec![], true));
}

fn pages_are_bounded(site: Site) {
    let engine = site();
    let value = Bytes::from(vec![b'v'; PAGE_BYTES_MAX / 4]);
    write(&*engine, |b| {
        (0..10u8).for_each(|k| b.put(Column::Revisions, vec![k], value.clone()));
    });
    for direction in [Direction::Ascending, Direction::Descending] {
        let page = engine.range(&request("", None, direction, 100)).expect("range");
        let bytes: usize = page.pairs.iter().map(|(k, v)| k.len() + v.len()).sum();
        assert!(page.more && bytes <= PAGE_BYTES_MAX + value.len() + 1, "a page of {bytes} bytes");
    }
    let huge = Bytes::from(vec![b'v'; PAGE_BYTES_MAX * 2]);
    write(&*engine, |b| b.put(Column::Auth, "huge", huge));
    let request = RangeRequest { column: Column::Auth, ..request("", None, Direction::Ascending, 100) };
    assert_eq!(engine.range(&request).expect("range").pairs.len(), 1, "one pair always fits");
}

fn many_at_once(site: Site) {
    let engine = site();
    write(&*engine, |b| ["a", "b", "c", "d"].into_iter().for_each(|k| b.put(Column::Revisions, k, k)));
    let snapshot = engine.snapshot().expect("snapshot");
    write(&*engine, |b| b.delete_range(Column::Revisions, "a", "z"));
    let keys = ["c", "x", "a", "c"].map(Bytes::from);
    let found = snapshot.get_many(Column::Revisions, &keys).expect("get_many");
    assert_eq!(found, [Some("c".into()), None, Some("a".into()), Some("c".into())]);
    assert_eq!(snapshot.get_many(Column::Revisions, &[]).expect("get_many"), [None; 0]);
    let count = |start: &'static str, end: &'static str| {
        snapshot.count(Column::Revisions, &start.into(), &end.into()).expect("count")
    };
    assert_eq!((count("", "z"), count("b", "d"), count("d", "b"), count("b", "b")), (4, 2, 0, 0));
}

fn delete_range_is_half_open(site: Site) {
    let engine = site();
    write(&*engine, |b| ["a", "b", "c", "d"].into_iter().for_each(|k| b.put(Column::Revisions, k, "v")));
    write(&*engine, |b| b.delete_range(Column::Revisions, "b", "d"));
    write(&*engine, |b| b.delete_range(Column::Revisions, "a", "a"));
    write(&*engine, |b| b.delete_range(Column::Revisions, "d", "a"));
    let page = engine.range(&request("", None, Direction::Ascending, 10)).expect("range");
    assert_eq!(keys(&page), ["a", "d"]);
}

fn snapshot_is_pinned(site: Site) {
    let engine = site();
    write(&*engine, |b| {
        b.put(Column::Revisions, "a", "1");
        b.put(Column::Meta, "m", "1");
    });
    let snapshot = engine.snapshot().expect("snapshot");
    write(&*engine, |b| {
        b.put(Column::Revisions, "a", "2");
        b.put(Column::Revisions, "b", "2");
        b.put(Column::Meta, "m", "2");
    });
    write(&*engine, |b| b.delete_range(Column::Revisions, "", "z"));
    engine.flush().expect("flush");
    assert_eq!(snapshot.get(Column::Revisions, b"a").expect("get"), Some("1".into()));
    assert_eq!(snapshot.get(Column::Meta, b"m").expect("get"), Some("1".into()));
    let page = snapshot.range(&request("", None, Direction::Descending, 10)).expect("range");
    assert_eq!(keys(&page), ["a"]);
    drop(engine);
    assert_eq!(snapshot.get(Column::Revisions, b"b").expect("a snapshot outlives other handles"), None);
}

fn flush_is_a_durable_boundary(site: Site) {
    let engine = site();
    write(&*engine, |b| Column::ALL.into_iter().for_each(|c| b.put(c, "kept", "1")));
    write(&*engine, |b| b.delete(Column::Auth, "kept"));
    engine.flush().expect("flush");
    drop(engine);
    let engine = site();
    for column in Column::ALL {
        let expected = (column != Column::Auth).then(|| Bytes::from("1"));
        assert_eq!(get(&*engine, column, "kept"), expected, "{}", column.name());
    }
}

fn durable_meta_follows_flushes(site: Site) {
    let engine = site();
    let durable = |engine: &dyn Engine| engine.durable_meta(b"m").expect("durable_meta");
    write(&*engine, |b| b.put(Column::Meta, "m", "1"));
    engine.flush().expect("flush");
    assert_eq!(durable(&*engine), Some("1".into()));
    write(&*engine, |b| b.put(Column::Meta, "m", "2"));
    // It may have flushed by itself; what it then claims must be what a crash leaves, at least.
    let claimed = durable(&*engine).expect("the first flush is not forgotten");
    drop(engine);
    let engine = site();
    let found = get(&*engine, Column::Meta, "m").expect("the first flush survives");
    assert!(found >= claimed, "claimed {claimed:?}, found {found:?}");
    assert_eq!(durable(&*engine), Some(found), "what was found at opening is durable");
    write(&*engine, |b| b.delete(Column::Meta, "m"));
    engine.flush().expect("flush");
    assert_eq!(durable(&*engine), None);
}

fn crash_leaves_a_batch_boundary(site: Site) {
    let flushed_at = 40u64;
    let engine = site();
    for step in 1..=100u64 {
        write(&*engine, |b| Column::ALL.into_iter().for_each(|c| b.put(c, "step", step.to_be_bytes().to_vec())));
        if step == flushed_at {
            engine.flush().expect("flush");
        }
    }
    drop(engine);
    let engine = site();
    let found: Vec<u64> = Column::ALL
        .into_iter()
        .map(|c| get(&*engine, c, "step").expect("flushed"))
        .map(|v| u64::from_be_bytes(v[..].try_into().expect("eight bytes")))
        .collect();
    assert!(found.iter().all(|step| *step == found[0]), "columns disagree: {found:?}");
    assert!(found[0] >= flushed_at, "flushed batches are lost: {found:?}");
}
