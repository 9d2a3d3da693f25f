//! The bbolt writer and reader against each other, against damage, and against real bbolt.

mod common;

use bytes::Bytes;
use common::{open, BytesFile};
use keelstone_backup::{
    bbolt::{check, Bolt, BoltWriter, Bucket, PageSink, Value},
    BackupError,
};
use proptest::{collection::btree_map, prelude::*};
use std::{collections::BTreeMap, sync::Arc};

/// What a bucket holds.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Value(Vec<u8>),
    Bucket(BTreeMap<Vec<u8>, Node>),
}

type Tree = BTreeMap<Vec<u8>, Node>;

fn load<S: PageSink>(writer: &mut BoltWriter<S>, tree: &Tree) {
    for (key, node) in tree {
        match node {
            Node::Value(value) => writer.put(key.clone(), value.clone()).unwrap(),
            Node::Bucket(inner) => {
                writer.begin_bucket(key.clone()).unwrap();
                load(writer, inner);
                writer.end_bucket().unwrap();
            }
        }
    }
}

fn encode(tree: &Tree, page_bytes: usize) -> Vec<u8> {
    let mut counting = BoltWriter::with_page_bytes((), page_bytes);
    load(&mut counting, tree);
    let (layout, ()) = counting.finish().unwrap();
    let mut writer = BoltWriter::with_page_bytes(layout.head().to_vec(), page_bytes);
    load(&mut writer, tree);
    let (again, file) = writer.finish().unwrap();
    assert_eq!((again, file.len() as u64), (layout, layout.file_bytes()));
    file
}

fn decode(bucket: &Bucket) -> Result<Tree, BackupError> {
    let mut tree = Tree::new();
    let mut cursor = bucket.cursor();
    while let Some(item) = cursor.next()? {
        let node = match item.value {
            Value::Bytes(value) => Node::Value(value.to_vec()),
            Value::Bucket(inner) => Node::Bucket(decode(&inner)?),
        };
        tree.insert(item.key.to_vec(), node);
    }
    Ok(tree)
}

fn node() -> impl Strategy<Value = Node> {
    let size = prop_oneof![8 => 0..40usize, 2 => 40..700usize, 1 => 700..20_000usize];
    let value = size.prop_map(|size| Node::Value((0..size).map(|i| i as u8).collect()));
    value.prop_recursive(3, 200, 60, |inner| {
        btree_map(proptest::collection::vec(any::<u8>(), 1..30), inner, 0..60).prop_map(Node::Bucket)
    })
}

fn tree() -> impl Strategy<Value = Tree> {
    btree_map(proptest::collection::vec(any::<u8>(), 1..30), node(), 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read(tree in tree(), shift in 9..14u32) {
        let file = encode(&tree, 1 << shift);
        let bolt = open(file).unwrap();
        prop_assert_eq!(&decode(&bolt.root()).unwrap(), &tree);
        prop_assert_eq!(bolt.root().last().unwrap().map(|item| item.key.to_vec()), tree.keys().last().cloned());
        check(&bolt).unwrap();
    }

    /// Damage anywhere ends in a value or an error: no panic, no memory without bound, no endless walk.
    #[test]
    fn hostile_bytes_are_survived(
        tree in tree(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = encode(&tree, 512);
        for (at, value) in flips {
            let at = at.index(file.len());
            file[at] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(bolt) = open(file) {
            let _ = decode(&bolt.root());
            let _ = check(&bolt);
            let _ = bolt.root().last();
        }
    }

    /// The same, with the damage where it hurts: in headers and elements at the beginning of pages.
    #[test]
    fn hostile_headers_are_survived(
        tree in tree(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..48usize, any::<u8>()), 1..6),
    ) {
        let mut file = encode(&tree, 512);
        let pages = file.len() / 512;
        for (page, at, value) in flips {
            file[(2 + page.index(pages - 2)) * 512 + at] = value;
        }
        let bolt = open(file).unwrap();
        let _ = decode(&bolt.root());
        let _ = check(&bolt);
    }
}

#[test]
fn a_hundred_thousand_keys_make_a_tree_of_levels_in_little_memory() {
    for count in [0_u64, 1, 2, 100, 5_000, 100_000] {
        let tree: Tree =
            (0..count).map(|i| (i.to_be_bytes().to_vec(), Node::Value(vec![7; (i % 50) as usize]))).collect();
        let tree = Tree::from([(b"key".to_vec(), Node::Bucket(tree))]);
        let bolt = open(encode(&tree, 4096)).unwrap();
        assert_eq!(decode(&bolt.root()).unwrap(), tree);
        let checked = check(&bolt).unwrap();
        assert_eq!((checked.buckets, checked.pairs), (1, count));
    }
}

#[test]
fn long_keys_and_large_values_overflow() {
    let key = |i: u8| vec![i; 30_000];
    let inner: Tree = (1..9).map(|i| (key(i), Node::Value(vec![i; 3_000_000]))).collect();
    let tree = Tree::from([(b"big".to_vec(), Node::Bucket(inner))]);
    let bolt = open(encode(&tree, 4096)).unwrap();
    assert!(decode(&bolt.root()).unwrap() == tree);
    check(&bolt).unwrap();
}

#[test]
fn what_bbolt_cannot_hold_is_refused() {
    let mut writer = BoltWriter::new(Vec::new());
    writer.put("b", "1").unwrap();
    assert!(writer.put("b", "2").is_err());
    assert!(writer.put("a", "2").is_err());
    assert!(writer.put("", "2").is_err());
    assert!(writer.put(vec![b'x'; 32_769], "2").is_err());
    writer.put(vec![b'x'; 32_768], "2").unwrap();
    assert!(writer.end_bucket().is_err());
    let mut writer = BoltWriter::new(Vec::new());
    writer.begin_bucket("a").unwrap();
    assert!(writer.finish().is_err());
    let mut writer = BoltWriter::new(Vec::new());
    while writer.begin_bucket("a").is_ok() {}
}

#[test]
fn a_damaged_meta_is_replaced_by_the_other() {
    let tree = Tree::from([(b"a".to_vec(), Node::Value(b"b".to_vec()))]);
    let whole = encode(&tree, 4096);
    for meta in [0, 1] {
        let mut file = whole.clone();
        file[meta * 4096 + 40] ^= 1;
        assert_eq!(decode(&open(file).unwrap().root()).unwrap(), tree);
    }
    let mut file = whole;
    file[40] ^= 1;
    file[4096 + 40] ^= 1;
    assert!(open(file).is_err());
    assert!(open(Vec::new()).is_err());
    assert!(Bolt::open(Arc::new(BytesFile(Bytes::from_static(&[0; 64]))), 64).is_err());
}

#[test]
fn a_page_that_belongs_to_nothing_is_found() {
    let inner: Tree = (0..2_000_u64).map(|i| (i.to_be_bytes().to_vec(), Node::Value(vec![1; 9]))).collect();
    let mut file = encode(&Tree::from([(b"a".to_vec(), Node::Bucket(inner))]), 512);
    let last = file.len() / 512 - 1;
    // The root's only element is the bucket; the second branch element of its tree is cut off by a count of 1.
    let branch = (3..last).rfind(|page| file[page * 512 + 8] == 1).unwrap();
    file[branch * 512 + 10..branch * 512 + 12].copy_from_slice(&1_u16.to_le_bytes());
    assert!(check(&open(file).unwrap()).unwrap_err().to_string().contains("belongs to nothing"));
}
