//! Snapshot files of this store's state: round trips, and what a file must not be believed.

mod common;

use std::sync::Arc;

use common::{compact, content, delete, empty, enable, grant, grant_role, place, put, role, user, BytesFile, Store};
use keelstone_backup::etcd::{import, status, About, Epoch, EtcdFile, EtcdSnapshot};
use keelstone_etcd_api::{mvccpb, pb};
use keelstone_mvcc::{AuthChange, AuthEnable, Mvcc, Op, Row};
use proptest::prelude::*;

/// A store that has applied these commands.
fn store(ops: &[Op]) -> Arc<Mvcc> {
    let mut store = Store::default();
    store.apply(ops);
    store.mvcc
}

fn file(mvcc: &Mvcc) -> Vec<u8> {
    let mut snapshot = EtcdSnapshot::new(mvcc.export().unwrap(), About::default()).unwrap();
    let mut bytes = Vec::new();
    while let Some(more) = snapshot.next_bytes().unwrap() {
        assert!(!more.is_empty());
        bytes.extend_from_slice(&more);
    }
    assert_eq!(snapshot.file_bytes(), bytes.len() as u64);
    bytes
}

fn open(bytes: Vec<u8>) -> EtcdFile {
    EtcdFile::from_file(Arc::new(BytesFile(bytes.into())), false).unwrap()
}

fn restored(bytes: Vec<u8>, epoch: Epoch) -> Mvcc {
    let mvcc = empty();
    import(&open(bytes), &mvcc, place(epoch)).unwrap();
    mvcc
}

fn op() -> impl Strategy<Value = Op> {
    let key = (0..12u8).prop_map(|key| format!("k{key}"));
    prop_oneof![
        6 => (key.clone(), 0..3000usize, 0..4i64).prop_map(|(key, size, lease)| put(&key, &"v".repeat(size), lease)),
        2 => key.clone().prop_map(|key| delete(&key)),
        1 => (1..4i64).prop_map(grant),
        1 => (1..4i64).prop_map(|id| Op::LeaseRevoke(pb::LeaseRevokeRequest { id })),
        1 => (1..60i64).prop_map(compact),
        1 => ("(root|ann|bob)", "(hash)?").prop_map(|(name, hash)| user(&name, &hash)),
        1 => ("(readers|writers)", "[a-c]", "[d-f]?", 0..2usize)
            .prop_map(|(name, key, end, which)| role(&name, &key, &end)[which].clone()),
        1 => ("(root|ann|bob)", "(root|readers|writers)").prop_map(|(name, role)| grant_role(&name, &role)),
        1 => Just(enable()),
        1 => (key.clone(), key).prop_map(|(a, b)| {
            let request = |op| pb::RequestOp { request: Some(op) };
            let put = |key: String| pb::request_op::Request::RequestPut(pb::PutRequest {
                key: key.into(), ..Default::default()
            });
            let ops = if a == b { vec![request(put(a))] } else { vec![request(put(a)), request(put(b))] };
            Op::Txn(pb::TxnRequest { success: ops, ..Default::default() })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restored_store_is_the_same(ops in proptest::collection::vec(op(), 0..120), swept in any::<bool>()) {
        let original = store(&ops);
        let before = content(&original);
        while swept && original.compact_step(10).unwrap() {}
        prop_assert_eq!(&content(&original), &before);
        let bytes = file(&original);
        let copy = restored(bytes.clone(), Epoch::default());
        prop_assert_eq!(&content(&copy), &before);
        prop_assert_eq!(original.hash_kv(0).unwrap(), copy.hash_kv(0).unwrap());
        // And out again: the same rows, so the same hash.
        let (first, second) = (status(&open(bytes)).unwrap(), status(&open(file(&copy))).unwrap());
        prop_assert_eq!((first.revision, first.total_size), (second.revision, second.total_size));
    }

    #[test]
    fn hostile_files_are_survived(
        ops in proptest::collection::vec(op(), 1..40),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
    ) {
        let mut bytes = file(&store(&ops));
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let Ok(file) = EtcdFile::from_file(Arc::new(BytesFile(bytes.into())), true) else { return Ok(()) };
        let _ = status(&file);
        let mvcc = empty();
        if import(&file, &mvcc, place(Epoch::default())).is_err() {
            prop_assert_eq!(mvcc.revision(), 1);
        }
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let bytes = file(&store(&[put("a", "b", 0)]));
    for at in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(EtcdFile::from_file(Arc::new(BytesFile(bad.into())), false).is_err(), "byte {at}");
    }
    for cut in [0, 1, 4096, bytes.len() - 32, bytes.len() - 1] {
        let bad = bytes[..cut].to_vec();
        assert!(EtcdFile::from_file(Arc::new(BytesFile(bad.into())), false).is_err(), "cut at {cut}");
    }
}

#[test]
fn an_epoch_never_goes_back() {
    let bytes = file(&store(&[put("a", "1", 0), put("a", "2", 0), put("b", "3", 0)]));
    let mvcc = restored(bytes.clone(), Epoch { bump_revisions: 1_000, mark_compacted: true });
    assert_eq!((mvcc.revision(), mvcc.compacted_revision()), (1_004, 1_004));
    let at = |revision| mvcc.range(&pb::RangeRequest { key: "a".into(), revision, ..Default::default() });
    assert_eq!(at(0).unwrap().kvs[0].value, "2");
    assert!(at(3).is_err());
    // What was raised survives a round trip, with and without the mark.
    assert_eq!(restored(file(&mvcc), Epoch::default()).revision(), 1_004);
    let raised = restored(bytes.clone(), Epoch { bump_revisions: 1_000, mark_compacted: false });
    assert_eq!((raised.revision(), raised.compacted_revision()), (1_004, -1));
    assert_eq!(restored(file(&raised), Epoch::default()).revision(), 1_004);
    for bump_revisions in [-1, i64::MAX] {
        let epoch = Epoch { bump_revisions, mark_compacted: true };
        assert!(import(&open(bytes.clone()), &empty(), place(epoch)).is_err());
    }
}

/// Tokens are no part of a backup: a restored store takes a new secret for them once, and only while auth is on.
#[test]
fn the_secret_of_tokens_stays_behind() {
    let mut ops = vec![user("root", "hash"), grant_role("root", "root"), enable(), put("a", "1", 0)];
    ops.extend(role("readers", "a", "b"));
    let original = store(&ops);
    let bytes = file(&original);
    let secret = b"secret";
    assert_eq!(original.auth().token_secret(), &secret[..]);
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    let mut copy = Store { mvcc: Arc::new(restored(bytes, Epoch::default())), next: 2 };
    assert_eq!(copy.mvcc.auth().content(), original.auth().content());
    assert!(copy.mvcc.auth().status().enabled && copy.mvcc.auth().token_secret().is_empty());
    let secret_only = |secret: &'static str| {
        common::auth(AuthChange::Enable(AuthEnable { token_secret: secret.into(), secret_only: true }))
    };
    copy.apply(&[secret_only("one"), secret_only("two")]);
    assert_eq!(copy.mvcc.auth().token_secret(), "one");
    copy.apply(&[common::auth(AuthChange::Disable(pb::AuthDisableRequest {})), secret_only("three")]);
    assert!(!copy.mvcc.auth().status().enabled && copy.mvcc.auth().token_secret().is_empty());
}

#[test]
fn rows_of_an_import_must_follow_each_other() {
    let mvcc = empty();
    let head =
        keelstone_mvcc::ImportHead { revision: 9, compacted: -1, hash: 0, applied: place(Epoch::default()).applied };
    let mut import = mvcc.begin_import(head).unwrap();
    let kv = mvccpb::KeyValue { key: "a".into(), version: 1, create_revision: 2, ..Default::default() };
    import.row(Row { main: 2, sub: 0, kv: kv.clone() }).unwrap();
    assert!(import.row(Row { main: 2, sub: 0, kv }).is_err());
}

/// A row in a line.
fn line(row: &Row) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Row { main, sub, kv } = row;
    if row.is_deletion() {
        return format!("{main}.{sub} deleted {}\n", text(&kv.key));
    }
    let (value, lease) = (text(&kv.value), if kv.lease == 0 { "" } else { " leased" });
    let value = if value.len() > 20 { format!("{} bytes", value.len()) } else { value };
    format!("{main}.{sub} {} = {value}, created {}, version {}{lease}\n", text(&kv.key), kv.create_revision, kv.version)
}

/// Files that etcd 3.4.23 and 3.5.1 saved: puts, a lease, deletions, a transaction, a compaction, users.
#[test]
fn files_of_etcd_are_read_for_ever() {
    let files: [(&[u8], u32, u64); 2] = [
        (include_bytes!("fixtures/etcd-3.4.db"), 0x64a8_bfe6, 18),
        (include_bytes!("fixtures/etcd-3.5.db"), 0xbc27_260a, 20),
    ];
    for (bytes, hash, total_key) in files {
        let file = open(bytes.to_vec());
        let found = status(&file).unwrap();
        assert_eq!((found.hash, found.total_key, found.revision), (hash, total_key, 9));
        assert_eq!(found.total_size, bytes.len() as u64 - 32);
        let head = file.head().unwrap();
        assert_eq!((head.revision, head.compacted), (9, 4));
        assert_eq!((head.leases.len(), head.leases[0].ttl_s), (1, 3600));
        assert!(!head.auth.enabled && head.auth.revision > 1);
        let names = |names: Vec<&bytes::Bytes>| {
            names.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(head.auth.users.iter().map(|user| &user.name).collect()), ["bob", "root"]);
        assert_eq!(names(head.auth.roles.iter().map(|role| &role.name).collect()), ["reader"]);
        let mut rows = file.rows();
        let mut text = String::new();
        while let Some(row) = rows.next().unwrap() {
            text.push_str(&line(&row));
        }
        assert_eq!(text, include_str!("fixtures/rows.txt"));
        let mvcc = restored(bytes.to_vec(), Epoch::default());
        assert_eq!((mvcc.revision(), mvcc.compacted_revision()), (9, 4));
        assert_eq!(mvcc.lease_keys(head.leases[0].id), Ok(Vec::<bytes::Bytes>::new()));
        let mut users_and_roles = head.auth.clone();
        // etcd also writes options that say nothing.
        users_and_roles.users.iter_mut().for_each(|user| user.options = user.options.filter(|said| said.no_password));
        assert_eq!(mvcc.auth().content(), users_and_roles);
        let at_8 = mvcc.range(&pb::RangeRequest { key: "a".into(), revision: 8, ..Default::default() }).unwrap();
        assert_eq!(at_8.kvs[0].value, "2");
    }
}
