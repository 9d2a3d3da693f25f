//! Users, roles and what they allow: at apply, after a restart, after a snapshot.

use keelstone_etcd_api::{
    authpb,
    pb::{self, compare::CompareResult, request_op::Request},
    ApiError,
};
use keelstone_mvcc::{AuthChange, AuthCommand, AuthEnable, Caller, Entry, Op, Payload, Reply};

use crate::support::{command_for, delete, put, range, Store};

fn change(store: &Store, change: AuthChange) -> Reply {
    store.apply(Op::Auth(AuthCommand { change: Some(change) }))
}

fn user_add(name: &str) -> AuthChange {
    let hashed_password = format!("hash of {name}");
    AuthChange::UserAdd(pb::AuthUserAddRequest { name: name.into(), hashed_password, ..Default::default() })
}

fn user_grant(user: &str, role: &str) -> AuthChange {
    AuthChange::UserGrantRole(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn role_add(name: &str) -> AuthChange {
    AuthChange::RoleAdd(pb::AuthRoleAddRequest { name: name.into() })
}

fn role_grant(name: &str, kind: authpb::permission::Type, key: &str, end: &str) -> AuthChange {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    let perm = Some(authpb::Permission { perm_type: kind.into(), key, range_end });
    AuthChange::RoleGrantPermission(pb::AuthRoleGrantPermissionRequest { name: name.into(), perm })
}

fn enable() -> AuthChange {
    AuthChange::Enable(AuthEnable { token_secret: "secret".into(), secret_only: false })
}

/// Auth is on; alice may read and write `[a, c)` and read `[c, e)`.
fn secured() -> Store {
    use authpb::permission::Type;
    let store = Store::new();
    let changes = [
        user_add("root"),
        user_grant("root", "root"),
        user_add("alice"),
        role_add("keeper"),
        role_grant("keeper", Type::Readwrite, "a", "c"),
        role_grant("keeper", Type::Read, "c", "e"),
        user_grant("alice", "keeper"),
        enable(),
    ];
    for wanted in changes {
        change(&store, wanted).unwrap();
    }
    store
}

fn caller(store: &Store, user: &str) -> Caller {
    store.mvcc.auth().caller(user.into())
}

fn apply_for(store: &Store, op: Op, caller: Caller) -> Reply {
    let index = store.next_index.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    store.mvcc.apply(vec![command_for(index, op, Some(caller))]).unwrap().remove(0)
}

fn read(store: &Store, key: &str, end: &str, caller: &Caller) -> Result<pb::RangeResponse, ApiError> {
    store.mvcc.range_for(&range(key, end), Some(caller), &mut |_| Ok(()))
}

fn as_alice(store: &Store, op: Op) -> Option<ApiError> {
    apply_for(store, op, caller(store, "alice")).err()
}

#[test]
fn without_root_auth_cannot_be_enabled() {
    let store = Store::new();
    assert_eq!(change(&store, enable()), Err(ApiError::RootUserNotExist));
    change(&store, user_add("root")).unwrap();
    assert_eq!(change(&store, enable()), Err(ApiError::RootRoleNotExist));
    change(&store, user_grant("root", "root")).unwrap();
    change(&store, enable()).unwrap();
    assert_eq!(store.mvcc.auth().status().revision, 3, "as etcd: enabling is no change");
    assert!(store.mvcc.auth_enabled());
    for refused in [
        AuthChange::UserDelete(pb::AuthUserDeleteRequest { name: "root".into() }),
        AuthChange::UserRevokeRole(pb::AuthUserRevokeRoleRequest { name: "root".into(), role: "root".into() }),
        AuthChange::RoleDelete(pb::AuthRoleDeleteRequest { role: "root".into() }),
    ] {
        assert_eq!(change(&store, refused), Err(ApiError::InvalidAuthManagement));
    }
}

#[test]
fn a_command_may_do_what_its_caller_may() {
    let store = secured();
    let denied = Some(ApiError::PermissionDenied);
    assert_eq!(as_alice(&store, Op::Put(put("a", "1"))), None);
    assert_eq!(as_alice(&store, Op::Put(put("c", "1"))), denied);
    assert_eq!(as_alice(&store, Op::DeleteRange(delete("a", "c"))), None);
    assert_eq!(as_alice(&store, Op::DeleteRange(delete("a", "d"))), denied);
    assert_eq!(as_alice(&store, Op::Alarm(pb::AlarmRequest { action: 1, ..Default::default() })), denied);
    assert_eq!(as_alice(&store, Op::Auth(AuthCommand { change: Some(user_add("mallory")) })), denied);
    assert_eq!(as_alice(&store, Op::LeaseExpire(keelstone_mvcc::LeaseExpire { id: 1, term: 1 })), denied);
    let root = caller(&store, "root");
    assert!(apply_for(&store, Op::Put(put("z", "1")), root).is_ok());
    assert_eq!(apply_for(&store, Op::Put(put("a", "1")), Caller::default()), Err(ApiError::UserEmpty));
    assert!(store.apply(Op::Put(put("z", "2"))).is_ok(), "the store itself may do all");
}

#[test]
fn every_branch_of_a_txn_is_checked_at_every_depth() {
    let store = secured();
    let allowed = pb::RequestOp { request: Some(Request::RequestPut(put("a", "1"))) };
    let forbidden = [
        Request::RequestRange(range("x", "")),
        Request::RequestPut(put("d", "1")),
        Request::RequestDeleteRange(delete("d", "")),
    ];
    for request in forbidden {
        let forbidden = pb::RequestOp { request: Some(request) };
        for (success, failure) in [(vec![forbidden.clone()], vec![]), (vec![allowed.clone()], vec![forbidden.clone()])]
        {
            let txn = pb::TxnRequest { success, failure, ..Default::default() };
            assert_eq!(as_alice(&store, Op::Txn(txn.clone())), Some(ApiError::PermissionDenied));
            let outer = pb::RequestOp { request: Some(Request::RequestTxn(txn)) };
            let nested = pb::TxnRequest { success: vec![allowed.clone(), outer], ..Default::default() };
            assert_eq!(as_alice(&store, Op::Txn(nested)), Some(ApiError::PermissionDenied));
        }
    }
    let compare = pb::Compare { key: "x".into(), result: CompareResult::Equal.into(), ..Default::default() };
    let txn = pb::TxnRequest { compare: vec![compare], success: vec![allowed], failure: vec![] };
    assert_eq!(as_alice(&store, Op::Txn(txn)), Some(ApiError::PermissionDenied));
    assert_eq!(store.mvcc.revision(), 1, "nothing was changed");
}

#[test]
fn what_was_there_before_a_write_is_only_for_readers() {
    use authpb::permission::Type;
    let store = secured();
    change(&store, role_grant("keeper", Type::Write, "w", "")).unwrap();
    let peek = pb::PutRequest { prev_kv: true, ..put("w", "1") };
    assert_eq!(as_alice(&store, Op::Put(put("w", "1"))), None);
    assert_eq!(as_alice(&store, Op::Put(peek.clone())), Some(ApiError::PermissionDenied));
    let op = pb::RequestOp { request: Some(Request::RequestPut(peek)) };
    let txn = pb::TxnRequest { success: vec![op], ..Default::default() };
    assert_eq!(as_alice(&store, Op::Txn(txn)), Some(ApiError::PermissionDenied));
    let peek = pb::DeleteRangeRequest { prev_kv: true, ..delete("w", "") };
    assert_eq!(as_alice(&store, Op::DeleteRange(peek)), Some(ApiError::PermissionDenied));
}

#[test]
fn a_lease_is_ended_only_by_who_may_write_all_its_keys() {
    let store = secured();
    let grant = Op::LeaseGrant(pb::LeaseGrantRequest { id: 7, ttl: 60 });
    assert_eq!(as_alice(&store, grant.clone()), None);
    assert_eq!(apply_for(&store, grant, Caller::default()), Err(ApiError::UserEmpty));
    store.apply(Op::Put(pb::PutRequest { lease: 7, ..put("x", "1") })).unwrap();
    let revoke = Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 });
    assert_eq!(as_alice(&store, revoke.clone()), Some(ApiError::PermissionDenied));
    let attach = pb::PutRequest { lease: 7, ..put("a", "1") };
    assert_eq!(as_alice(&store, Op::Put(attach.clone())), Some(ApiError::PermissionDenied));
    let op = pb::RequestOp { request: Some(Request::RequestPut(attach)) };
    let txn = pb::TxnRequest { success: vec![op], ..Default::default() };
    assert_eq!(as_alice(&store, Op::Txn(txn)), Some(ApiError::PermissionDenied));
    store.apply(Op::DeleteRange(delete("x", ""))).unwrap();
    assert_eq!(as_alice(&store, revoke), None);
}

#[test]
fn a_command_that_was_allowed_under_older_roles_is_asked_again() {
    let store = secured();
    let before = caller(&store, "alice");
    change(&store, role_add("another")).unwrap();
    let old = Err(ApiError::AuthOldRevision);
    assert_eq!(apply_for(&store, Op::Put(put("a", "1")), before.clone()), old);
    assert_eq!(read(&store, "a", "", &before), Err(ApiError::AuthOldRevision));
    assert_eq!(as_alice(&store, Op::Put(put("a", "1"))), None);
}

#[test]
fn a_role_that_changes_or_goes_takes_its_users_permissions_along() {
    let store = secured();
    let (key, range_end) = ("a".into(), "c".into());
    let revoke = pb::AuthRoleRevokePermissionRequest { role: "keeper".into(), key, range_end };
    change(&store, AuthChange::RoleRevokePermission(revoke.clone())).unwrap();
    assert_eq!(change(&store, AuthChange::RoleRevokePermission(revoke)), Err(ApiError::PermissionNotGranted));
    assert_eq!(as_alice(&store, Op::Put(put("a", "1"))), Some(ApiError::PermissionDenied));
    let reader = caller(&store, "alice");
    assert!(read(&store, "c", "e", &reader).is_ok());
    change(&store, AuthChange::RoleDelete(pb::AuthRoleDeleteRequest { role: "keeper".into() })).unwrap();
    let reader = caller(&store, "alice");
    assert_eq!(read(&store, "c", "e", &reader), Err(ApiError::PermissionDenied));
    assert_eq!(store.mvcc.auth().user_roles(None, "alice").unwrap(), Vec::<String>::new());
}

/// etcd's issue 14571: permissions were not worked out again after a snapshot or a restart.
#[test]
fn a_restart_and_a_snapshot_bring_users_roles_and_permissions() {
    let store = secured();
    let other = Store::new();
    let mut pinned = store.mvcc.pin().unwrap();
    let applied = pinned.applied();
    let mut installer = other.mvcc.begin_install().unwrap();
    while let Some(chunk) = pinned.next_chunk().unwrap() {
        installer.chunk(chunk).unwrap();
    }
    let changes = other.mvcc.auth_changes();
    installer.finish(applied).unwrap();
    assert!(changes.has_changed().unwrap(), "watches look again after a snapshot");
    other.next_index.store(other.mvcc.applied().index + 1, std::sync::atomic::Ordering::SeqCst);
    let restarted = store.reopen();
    for copy in [&other, &restarted] {
        assert!(copy.mvcc.auth_enabled());
        assert_eq!(copy.mvcc.auth().status(), store.mvcc.auth().status());
        assert_eq!(copy.mvcc.auth().password("alice"), store.mvcc.auth().password("alice"));
        assert_eq!(copy.mvcc.auth().token_secret(), store.mvcc.auth().token_secret());
        assert_eq!(copy.mvcc.state_hash(), store.mvcc.state_hash());
        assert_eq!(as_alice(copy, Op::Put(put("b", "1"))), None);
        assert_eq!(as_alice(copy, Op::Put(put("d", "1"))), Some(ApiError::PermissionDenied));
    }
    assert_eq!(other.mvcc.state_hash(), restarted.mvcc.state_hash());
}

#[test]
fn the_state_hash_tells_users_and_roles_apart() {
    let hash = |wanted: AuthChange| {
        let store = Store::new();
        change(&store, wanted).unwrap();
        store.mvcc.state_hash()
    };
    assert_eq!(hash(user_add("a")), hash(user_add("a")));
    assert_ne!(hash(user_add("a")), hash(user_add("b")));
    assert_ne!(hash(user_add("a")), hash(role_add("a")));
}

#[test]
fn entries_of_the_log_before_there_was_auth_are_the_stores_own() {
    let old = keelstone_mvcc::Command { proposer_term: 1, op: Some(Op::Put(put("a", "1"))), caller: None };
    let bytes = prost::Message::encode_to_vec(&old);
    assert_eq!(<keelstone_mvcc::Command as prost::Message>::decode(&bytes[..]).unwrap(), old);
    let store = secured();
    let index = store.mvcc.applied().index + 1;
    let entry = Entry { index, term: 1, log_id: "log id".into(), payload: Payload::Command(old) };
    assert!(store.mvcc.apply(vec![entry]).unwrap().remove(0).is_ok());
}
