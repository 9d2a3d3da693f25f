//! Ranges in chunks: merged, they are the answer of one range.

use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::RangeChunks;

use crate::support::*;

fn chunks(store: &Store, request: &pb::RangeRequest, bytes_max: usize) -> Vec<pb::RangeResponse> {
    let mut chunks = store.mvcc.range_chunks(request.clone()).unwrap();
    std::iter::from_fn(|| chunks.next_chunk(bytes_max).unwrap()).collect()
}

/// Checks where header, count and `more` are, and merges.
fn merged(chunks: Vec<pb::RangeResponse>) -> pb::RangeResponse {
    let mut whole = pb::RangeResponse::default();
    let last = chunks.len() - 1;
    for (i, chunk) in chunks.into_iter().enumerate() {
        whole.kvs.extend(chunk.kvs);
        assert_eq!(chunk.header.is_some(), i == last);
        assert!(i == last || (chunk.count == 0 && !chunk.more));
        (whole.header, whole.count, whole.more) = (chunk.header, chunk.count, chunk.more);
    }
    whole
}

#[test]
fn chunks_merge_to_the_answer_of_a_range() {
    let store = Store::new();
    for i in 0..300 {
        store.put(&format!("k{:03}", i % 97), &"v".repeat(i * 7 % 500));
    }
    let old = store.mvcc.revision() - 120;
    store.delete("k1", "k2");
    for limit in [0, 1, 20, 96, 97, 98] {
        for revision in [0, old] {
            for (keys_only, count_only) in [(false, false), (true, false), (false, true)] {
                let request = pb::RangeRequest { limit, revision, keys_only, count_only, ..range("k", "l") };
                for bytes_max in [1, 2_000, 1 << 20] {
                    let found = merged(chunks(&store, &request, bytes_max));
                    assert_eq!(Ok(found), store.mvcc.range(&request), "{request:?}");
                }
            }
        }
    }
    let one = pb::RangeRequest { key: bytes("k005"), ..Default::default() };
    assert_eq!(Ok(merged(chunks(&store, &one, 1))), store.mvcc.range(&one));
    let none = range("z", "a");
    assert_eq!(Ok(merged(chunks(&store, &none, 1))), store.mvcc.range(&none));
}

#[test]
fn chunks_are_bounded_and_large_enough() {
    let store = Store::new();
    for i in 0..2_000 {
        store.put(&format!("k{i:04}"), &"v".repeat(if i < 1_000 { 10 } else { 1_000 }));
    }
    let chunks = chunks(&store, &range("k", "l"), 100_000);
    assert!((10..14).contains(&chunks.len()), "{}", chunks.len());
    let bytes = |chunk: &pb::RangeResponse| chunk.kvs.iter().map(|kv| kv.value.len()).sum::<usize>();
    assert!(chunks.iter().all(|chunk| bytes(chunk) < 102_000));
}

#[test]
fn a_stream_keeps_its_moment_through_writes_and_compaction() {
    let store = Store::new();
    for i in 0..50 {
        store.put(&format!("k{i:02}"), "before");
    }
    let expected = store.mvcc.range(&range("k", "l"));
    let mut chunks = store.mvcc.range_chunks(range("k", "l")).unwrap();
    let mut found = vec![chunks.next_chunk(1).unwrap().unwrap()];
    store.delete("k", "l");
    store.compact(store.mvcc.revision()).unwrap();
    store.sweep(10);
    found.extend(std::iter::from_fn(|| chunks.next_chunk(100).unwrap()));
    assert_eq!(Ok(merged(found)), expected);
}

#[test]
fn what_is_not_served_in_chunks() {
    let sorted = pb::RangeRequest { sort_target: 1, ..range("a", "b") };
    let descending = pb::RangeRequest { sort_order: 2, ..range("a", "b") };
    let filtered = pb::RangeRequest { min_mod_revision: 1, ..range("a", "b") };
    let ascending = pb::RangeRequest { sort_order: 1, ..range("a", "b") };
    assert!([sorted, descending, filtered].iter().all(|request| !RangeChunks::is_supported(request)));
    assert!(RangeChunks::is_supported(&ascending) && RangeChunks::is_supported(&range("a", "b")));
    let store = Store::new();
    for _ in 0..5 {
        store.put("a", "1");
    }
    store.compact(4).unwrap();
    let at = |revision| pb::RangeRequest { revision, ..range("a", "b") };
    assert_eq!(store.mvcc.range_chunks(at(3)).err(), Some(ApiError::Compacted));
    assert_eq!(store.mvcc.range_chunks(at(7)).err(), Some(ApiError::FutureRevision));
    assert!(store.mvcc.range_chunks(at(4)).is_ok());
}

#[test]
fn an_answer_that_is_not_admitted_is_not_read() {
    let store = Store::new();
    for i in 0..100 {
        store.put(&format!("k{i:02}"), &"v".repeat(10_000));
    }
    let mut asked = 0;
    let mut admit = |bytes: usize| {
        asked += bytes;
        if asked > 200_000 {
            Err(ApiError::TooManyRequests)
        } else {
            Ok(())
        }
    };
    assert_eq!(store.mvcc.range_admitted(&range("k", "l"), &mut admit), Err(ApiError::TooManyRequests));
    // It is asked for all values before any is read.
    assert!((1_000_000..1_100_000).contains(&asked), "{asked}");
    let mut admit = |bytes: usize| if bytes > 1_200_000 { Err(ApiError::TooManyRequests) } else { Ok(()) };
    assert_eq!(store.mvcc.range_admitted(&range("k", "l"), &mut admit).unwrap().count, 100);
}
