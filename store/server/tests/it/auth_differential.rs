//! Users, roles and keys under several users, on a real etcd and on this store: answers, codes and texts must be
//! equal. Where this store is stricter than the etcd of Debian on purpose (docs/guarantees.md), nothing is asked.

use std::collections::BTreeMap;

use keelstone_env::{channel, ChannelOptions, Env};
use keelstone_etcd_api::{
    authpb,
    pb::{
        self, auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient, request_op::Request as OpRequest,
    },
};
use tonic::{transport::Channel, Request, Response, Status};

use crate::{
    common::{put, Cluster},
    etcd::Etcd,
    requests::{delete, Numbers},
};

const RANDOM_STEPS: usize = 700;
const RANDOM_SEED: u64 = 0xa07;

#[derive(Clone, Debug)]
enum Act {
    Enable,
    Disable,
    Authenticate(&'static str, &'static str),
    UserAdd(&'static str, &'static str),
    UserAddWithoutPassword(&'static str),
    UserGet(&'static str),
    UserList,
    UserDelete(&'static str),
    UserPassword(&'static str, &'static str),
    UserGrant(&'static str, &'static str),
    UserRevoke(&'static str, &'static str),
    RoleAdd(&'static str),
    RoleGet(&'static str),
    RoleList,
    RoleDelete(&'static str),
    RoleGrant(&'static str, i32, &'static str, &'static str),
    RoleRevoke(&'static str, &'static str, &'static str),
    Get {
        key: &'static str,
        end: &'static str,
        serializable: bool,
    },
    Put {
        key: &'static str,
        lease: i64,
        prev_kv: bool,
    },
    Delete {
        key: &'static str,
        end: &'static str,
        prev_kv: bool,
    },
    /// Compare, then a put, else a range.
    Txn {
        compare: &'static str,
        put: &'static str,
        get: &'static str,
        end: &'static str,
    },
    LeaseGrant(i64),
    LeaseRevoke(i64),
    LeaseKeys(i64),
    HashKv,
}

/// Who acts: a user that was authenticated before, or nobody.
type Step = (Option<&'static str>, Act);

struct Target {
    channel: Channel,
    tokens: BTreeMap<&'static str, String>,
}

/// Sends a request and says how it was answered, without what differs by nature (headers).
macro_rules! said {
    ($self:ident, $user:ident, $client:ident . $method:ident ( $request:expr ) $(, $show:expr)?) => {{
        let answer = $client.$method($self.request($user, $request)).await;
        text(answer, |response| { let _ = &response; said!(@show response $(, $show)?) })
    }};
    (@show $response:ident) => { "done".to_owned() };
    (@show $response:ident, $show:expr) => { format!("{:?}", $show($response)) };
}

fn text<T>(answer: Result<Response<T>, Status>, show: impl FnOnce(T) -> String) -> String {
    match answer {
        Ok(response) => show(response.into_inner()),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

impl Target {
    fn new(endpoint: &str) -> Self {
        let options =
            ChannelOptions { keep_alive_interval: std::time::Duration::from_secs(60), ..ChannelOptions::default() };
        Self { channel: channel(&Env::os(), endpoint, options).unwrap(), tokens: BTreeMap::new() }
    }

    fn request<T>(&self, user: Option<&'static str>, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = user.and_then(|user| self.tokens.get(user)) {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    async fn run(&mut self, (user, act): Step) -> String {
        let mut auth = AuthClient::new(self.channel.clone());
        let string = str::to_owned;
        match act {
            Act::Enable => said!(self, user, auth.auth_enable(pb::AuthEnableRequest {})),
            Act::Disable => said!(self, user, auth.auth_disable(pb::AuthDisableRequest {})),
            Act::Authenticate(name, password) => {
                let request = pb::AuthenticateRequest { name: string(name), password: string(password) };
                let answer = auth.authenticate(Request::new(request)).await;
                if let Ok(response) = &answer {
                    self.tokens.insert(name, response.get_ref().token.clone());
                }
                text(answer, |_| "authenticated".to_owned())
            }
            Act::UserAdd(name, password) => {
                let (name, password) = (string(name), string(password));
                let request = pb::AuthUserAddRequest { name, password, ..Default::default() };
                said!(self, user, auth.user_add(request))
            }
            Act::UserAddWithoutPassword(name) => {
                let options = Some(authpb::UserAddOptions { no_password: true });
                let request = pb::AuthUserAddRequest { name: string(name), options, ..Default::default() };
                said!(self, user, auth.user_add(request))
            }
            Act::UserGet(name) => {
                let request = pb::AuthUserGetRequest { name: string(name) };
                said!(self, user, auth.user_get(request), |r: pb::AuthUserGetResponse| r.roles)
            }
            Act::UserList => {
                said!(self, user, auth.user_list(pb::AuthUserListRequest {}), |r: pb::AuthUserListResponse| r.users)
            }
            Act::UserDelete(name) => {
                said!(self, user, auth.user_delete(pb::AuthUserDeleteRequest { name: string(name) }))
            }
            Act::UserPassword(name, password) => {
                let (name, password) = (string(name), string(password));
                let request = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
                said!(self, user, auth.user_change_password(request))
            }
            Act::UserGrant(name, role) => {
                let request = pb::AuthUserGrantRoleRequest { user: string(name), role: string(role) };
                said!(self, user, auth.user_grant_role(request))
            }
            Act::UserRevoke(name, role) => {
                let request = pb::AuthUserRevokeRoleRequest { name: string(name), role: string(role) };
                said!(self, user, auth.user_revoke_role(request))
            }
            Act::RoleAdd(name) => said!(self, user, auth.role_add(pb::AuthRoleAddRequest { name: string(name) })),
            Act::RoleGet(role) => {
                let request = pb::AuthRoleGetRequest { role: string(role) };
                said!(self, user, auth.role_get(request), |r: pb::AuthRoleGetResponse| r.perm)
            }
            Act::RoleList => {
                said!(self, user, auth.role_list(pb::AuthRoleListRequest {}), |r: pb::AuthRoleListResponse| r.roles)
            }
            Act::RoleDelete(role) => {
                said!(self, user, auth.role_delete(pb::AuthRoleDeleteRequest { role: string(role) }))
            }
            Act::RoleGrant(name, perm_type, key, range_end) => {
                let perm = Some(authpb::Permission { perm_type, key: key.into(), range_end: range_end.into() });
                let request = pb::AuthRoleGrantPermissionRequest { name: string(name), perm };
                said!(self, user, auth.role_grant_permission(request))
            }
            Act::RoleRevoke(role, key, end) => {
                let (key, range_end) = (key.into(), end.into());
                let request = pb::AuthRoleRevokePermissionRequest { role: string(role), key, range_end };
                said!(self, user, auth.role_revoke_permission(request))
            }
            other => self.run_on_keys(user, other).await,
        }
    }

    async fn run_on_keys(&self, user: Option<&'static str>, act: Act) -> String {
        let mut kv = KvClient::new(self.channel.clone());
        let mut lease = LeaseClient::new(self.channel.clone());
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        match act {
            Act::Get { key, end, serializable } => {
                let (key, range_end) = (key.into(), end.into());
                let request = pb::RangeRequest { key, range_end, serializable, ..Default::default() };
                said!(self, user, kv.range(request), |r: pb::RangeResponse| r.kvs)
            }
            Act::Put { key, lease, prev_kv } => {
                let request = pb::PutRequest { lease, prev_kv, ..put(key, "v") };
                said!(self, user, kv.put(request), |r: pb::PutResponse| r.prev_kv)
            }
            Act::Delete { key, end, prev_kv } => {
                let request = pb::DeleteRangeRequest { prev_kv, ..delete(key, end) };
                said!(self, user, kv.delete_range(request), |r: pb::DeleteRangeResponse| (r.deleted, r.prev_kvs))
            }
            Act::Txn { compare, put: key, get, end } => {
                let op = |request| vec![pb::RequestOp { request: Some(request) }];
                let range = pb::RangeRequest { key: get.into(), range_end: end.into(), ..Default::default() };
                let request = pb::TxnRequest {
                    compare: vec![pb::Compare { key: compare.into(), ..Default::default() }],
                    success: op(OpRequest::RequestPut(put(key, "t"))),
                    failure: op(OpRequest::RequestRange(range)),
                };
                said!(self, user, kv.txn(request), |r: pb::TxnResponse| r.succeeded)
            }
            Act::LeaseGrant(id) => {
                said!(self, user, lease.lease_grant(pb::LeaseGrantRequest { id, ttl: 600 }))
            }
            Act::LeaseRevoke(id) => said!(self, user, lease.lease_revoke(pb::LeaseRevokeRequest { id })),
            Act::LeaseKeys(id) => {
                let request = pb::LeaseTimeToLiveRequest { id, keys: true };
                let keys = |r: pb::LeaseTimeToLiveResponse| {
                    let mut keys = r.keys;
                    keys.sort();
                    keys
                };
                said!(self, user, lease.lease_time_to_live(request), keys)
            }
            Act::HashKv => said!(self, user, maintenance.hash_kv(pb::HashKvRequest { revision: 0 })),
            other => unreachable!("{other:?} is not about keys"),
        }
    }
}

async fn targets() -> Option<(Etcd, Cluster, Target, Target)> {
    let real = Etcd::start(1).await?;
    let ours = Cluster::start_with(1, |config| config.bcrypt_cost = 4).await;
    let (theirs, own) = (Target::new(&real.endpoints[0]), Target::new(&ours.endpoints()[0]));
    Some((real, ours, theirs, own))
}

async fn compare(theirs: &mut Target, own: &mut Target, step: Step, differences: &mut Vec<String>) {
    let (expected, found) = (theirs.run(step.clone()).await, own.run(step.clone()).await);
    if expected != found {
        differences.push(format!("{step:?}\n  etcd: {expected}\n  ours: {found}\n"));
    }
}

const ROOT: Option<&str> = Some("root");
const ALICE: Option<&str> = Some("alice");

/// What everybody starts with: root, alice and bob with a role each, and auth enabled.
fn prelude() -> Vec<Step> {
    let acts = vec![
        Act::Enable,
        Act::Authenticate("root", "pw"),
        Act::UserAdd("root", "pw"),
        Act::Enable,
        Act::UserGrant("root", "root"),
        Act::RoleAdd("readers"),
        Act::RoleAdd("writers"),
        Act::RoleGrant("readers", 0, "a", "c"),
        Act::RoleGrant("writers", 2, "b", "d"),
        Act::UserAdd("alice", "pw"),
        Act::UserAdd("bob", "pw"),
        Act::UserGrant("alice", "readers"),
        Act::UserGrant("bob", "writers"),
        Act::Put { key: "a", lease: 0, prev_kv: false },
        Act::Enable,
        Act::Enable,
        Act::Authenticate("root", "pw"),
        Act::Authenticate("alice", "pw"),
        Act::Authenticate("bob", "pw"),
    ];
    acts.into_iter().map(|act| (None, act)).collect()
}

fn table() -> Vec<Step> {
    let root = |act| (ROOT, act);
    let alice = |act| (ALICE, act);
    let nobody = |act| (None, act);
    let get = |key, end| Act::Get { key, end, serializable: false };
    let write = |key| Act::Put { key, lease: 0, prev_kv: false };
    vec![
        nobody(Act::Authenticate("root", "wrong")),
        nobody(Act::Authenticate("nobody", "pw")),
        nobody(get("a", "")),
        nobody(write("a")),
        nobody(Act::UserList),
        nobody(Act::RoleAdd("x")),
        nobody(Act::Disable),
        alice(get("a", "")),
        alice(get("a", "c")),
        alice(get("a", "d")),
        alice(get("a", "\0")),
        alice(get("c", "a")),
        alice(get("b", "a")),
        alice(Act::Get { key: "a", end: "", serializable: true }),
        alice(Act::Get { key: "x", end: "", serializable: true }),
        alice(write("a")),
        alice(Act::Delete { key: "a", end: "", prev_kv: false }),
        alice(Act::Txn { compare: "a", put: "a", get: "a", end: "" }),
        alice(Act::UserGet("alice")),
        alice(Act::UserGet("bob")),
        alice(Act::UserList),
        alice(Act::RoleGet("readers")),
        alice(Act::RoleGet("writers")),
        alice(Act::RoleList),
        alice(Act::UserAdd("eve", "pw")),
        alice(Act::UserPassword("alice", "other")),
        alice(Act::Disable),
        root(Act::HashKv),
        root(Act::UserAdd("", "pw")),
        root(Act::UserAdd("alice", "pw")),
        root(Act::UserGet("nobody")),
        root(Act::UserDelete("nobody")),
        root(Act::UserDelete("root")),
        root(Act::UserPassword("nobody", "pw")),
        root(Act::UserGrant("nobody", "readers")),
        root(Act::UserGrant("alice", "nothing")),
        root(Act::UserGrant("alice", "readers")),
        root(Act::UserRevoke("nobody", "readers")),
        root(Act::UserRevoke("alice", "writers")),
        root(Act::UserRevoke("root", "root")),
        root(Act::RoleAdd("")),
        root(Act::RoleAdd("readers")),
        root(Act::RoleGet("nothing")),
        root(Act::RoleAdd("root")),
        root(Act::RoleDelete("nothing")),
        root(Act::RoleDelete("root")),
        root(Act::RoleGrant("nothing", 0, "a", "")),
        root(Act::RoleRevoke("nothing", "a", "")),
        root(Act::RoleRevoke("readers", "z", "")),
        root(Act::RoleGrant("readers", 1, "a", "")),
        root(Act::RoleGrant("readers", 2, "x", "\0")),
        root(Act::RoleGet("readers")),
        alice(write("xyz")),
        alice(Act::Put { key: "a", lease: 0, prev_kv: true }),
        alice(write("b")),
        root(Act::LeaseGrant(77)),
        root(Act::Put { key: "b", lease: 77, prev_kv: false }),
        alice(Act::LeaseKeys(77)),
        alice(Act::LeaseRevoke(77)),
        alice(Act::Put { key: "x", lease: 77, prev_kv: false }),
        alice(Act::Put { key: "x", lease: 78, prev_kv: false }),
        root(Act::RoleGrant("readers", 2, "a", "c")),
        alice(Act::LeaseRevoke(77)),
        alice(Act::LeaseRevoke(77)),
        root(Act::UserAddWithoutPassword("bare")),
        nobody(Act::Authenticate("bare", "")),
        nobody(Act::Authenticate("bare", "pw")),
        root(Act::UserPassword("alice", "new")),
        nobody(Act::Authenticate("alice", "pw")),
        nobody(Act::Authenticate("alice", "new")),
        alice(get("a", "")),
        root(Act::RoleDelete("readers")),
        alice(get("a", "")),
        root(Act::UserGet("alice")),
        root(Act::UserList),
        root(Act::RoleList),
        root(Act::Disable),
        nobody(Act::Disable),
        nobody(write("a")),
        nobody(Act::UserList),
        nobody(Act::Authenticate("root", "pw")),
        nobody(Act::Enable),
        nobody(Act::Authenticate("root", "pw")),
        root(Act::UserList),
    ]
}

fn assert_none(differences: &[String]) {
    let shown = differences[..differences.len().min(12)].join("\n");
    assert!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles_are_answered_as_by_etcd() {
    let Some((_real, ours, mut theirs, mut own)) = targets().await else { return };
    let mut differences = Vec::new();
    for step in prelude().into_iter().chain(table()) {
        compare(&mut theirs, &mut own, step, &mut differences).await;
    }
    ours.stop_all().await;
    assert_none(&differences);
}

/// One of a list.
fn pick<T: Copy>(numbers: &mut Numbers, from: &[T]) -> T {
    from[numbers.below(from.len() as u64) as usize]
}

fn random_step(numbers: &mut Numbers) -> Step {
    let users = ["root", "alice", "bob"];
    let roles = ["readers", "writers", "others", "root"];
    let keys = ["a", "aa", "b", "bb", "c", "d"];
    let ends = ["", "", "b", "c", "d", "e", "\0"];
    // No range ends before it begins: to newer releases it is no permission, and whether one may be read depends
    // on the shape that the grants gave etcd's interval tree (docs/guarantees.md).
    let (key, end) = (pick(numbers, &keys), pick(numbers, &ends));
    let end = if end.is_empty() || end == "\0" || key < end { end } else { "" };
    let (name, role) = (pick(numbers, &["alice", "bob", "eve"]), pick(numbers, &roles));
    let actor = pick(numbers, &[None, ROOT, ROOT, ALICE, ALICE, Some("bob"), Some("bob")]);
    match numbers.below(40) {
        0 => (ROOT, Act::RoleAdd(role)),
        1 => (ROOT, Act::RoleDelete(pick(numbers, &["readers", "writers", "others"]))),
        2..=4 => (ROOT, Act::RoleGrant(role, numbers.below(3) as i32, key, end)),
        5 => (ROOT, Act::RoleRevoke(role, key, end)),
        6..=7 => (ROOT, Act::UserGrant(name, role)),
        8 => (ROOT, Act::UserRevoke(name, role)),
        // Newer releases show what root may do, not what was granted to it.
        9 => (actor, Act::RoleGet(if role == "root" { "readers" } else { role })),
        10 => (actor, Act::UserGet(name)),
        11 => (actor, if numbers.below(2) == 0 { Act::UserList } else { Act::RoleList }),
        12 => (ROOT, Act::LeaseGrant(pick(numbers, &[1, 2]))),
        13 => (ROOT, Act::LeaseRevoke(pick(numbers, &[1, 2]))),
        14 => (pick(numbers, &[ALICE, Some("bob")]), Act::LeaseRevoke(pick(numbers, &[1, 2]))),
        15 => (Some(pick(numbers, &users)), Act::LeaseKeys(pick(numbers, &[1, 2]))),
        16 => (actor, Act::RoleAdd("others")),
        17..=24 => (actor, Act::Get { key, end, serializable: numbers.below(2) == 0 }),
        25..=32 => {
            let lease = pick(numbers, &[0, 0, 1, 2]);
            (actor, Act::Put { key, lease, prev_kv: numbers.below(4) == 0 })
        }
        33..=35 => (actor, Act::Delete { key, end, prev_kv: numbers.below(2) == 0 }),
        _ => (actor, Act::Txn { compare: pick(numbers, &keys), put: key, get: pick(numbers, &keys), end }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_programs_of_several_users_are_answered_as_by_etcd() {
    let Some((_real, ours, mut theirs, mut own)) = targets().await else { return };
    let mut differences = Vec::new();
    for step in prelude() {
        compare(&mut theirs, &mut own, step, &mut differences).await;
    }
    let mut numbers = Numbers::new(RANDOM_SEED);
    for _ in 0..RANDOM_STEPS {
        let step = random_step(&mut numbers);
        compare(&mut theirs, &mut own, step, &mut differences).await;
        if differences.len() > 10 {
            break;
        }
    }
    ours.stop_all().await;
    assert_none(&differences);
}
