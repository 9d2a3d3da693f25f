use keelstone_etcd_api::{
    authpb,
    pb::{self, kv_client::KvClient},
    v3electionpb as election, v3lockpb as lock,
};
use tonic::{Request, Status};

use super::{
    client::{get, put, said, Client},
    holds, rows, same, Checked, MISSING,
};

fn text(name: &str) -> String {
    name.to_owned()
}

async fn user(client: &Client, name: &str, password: &str) -> Checked {
    let request = pb::AuthUserAddRequest { name: text(name), password: text(password), ..Default::default() };
    said(client.auth().user_add(request).await).map(drop)
}

async fn role(client: &Client, name: &str) -> Checked {
    said(client.auth().role_add(pb::AuthRoleAddRequest { name: text(name) }).await).map(drop)
}

async fn grant_role(client: &Client, user: &str, role: &str) -> Checked {
    let request = pb::AuthUserGrantRoleRequest { user: text(user), role: text(role) };
    said(client.auth().user_grant_role(request).await).map(drop)
}

async fn permit(client: &Client, role: &str, key: &str, range_end: &str) -> Checked {
    let perm = authpb::Permission { perm_type: 2, key: text(key).into(), range_end: text(range_end).into() };
    let request = pb::AuthRoleGrantPermissionRequest { name: text(role), perm: Some(perm) };
    said(client.auth().role_grant_permission(request).await).map(drop)
}

async fn forget(client: &Client, users: &[&str], roles: &[&str]) {
    // What is not there is not to be forgotten.
    for name in users {
        let _ = client.auth().user_delete(pb::AuthUserDeleteRequest { name: text(name) }).await;
    }
    for role in roles {
        let _ = client.auth().role_delete(pb::AuthRoleDeleteRequest { role: text(role) }).await;
    }
}

/// Checks that a call fails with this text.
fn refused<T>(result: Result<tonic::Response<T>, Status>, message: &str) -> Checked {
    match result {
        Ok(_) => Err(format!("succeeded; should be {message:?}")),
        Err(status) if status.code() == tonic::Code::Unimplemented => Err(format!("{MISSING}{}", status.message())),
        Err(status) if status.message() == message => Ok(()),
        Err(status) => Err(format!("{:?}: {}, not {message:?}", status.code(), status.message())),
    }
}

async fn token(client: &Client, name: &str, password: &str) -> Result<String, String> {
    let request = pb::AuthenticateRequest { name: text(name), password: text(password) };
    Ok(said(client.auth().authenticate(request).await)?.token)
}

fn with<T>(request: T, token: &str) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

/// What holds while authentication is on. `root` may all, `walker` only what is below `a/`.
async fn enabled(client: &Client, root: &str) -> Checked {
    let kv = || KvClient::new(client.channel.clone());
    refused(kv().range(get("x")).await, "etcdserver: user name is empty")?;
    refused(kv().range(with(get("x"), "nonsense")).await, "etcdserver: invalid auth token")?;
    let wrong = pb::AuthenticateRequest { name: text("walker"), password: text("wrong") };
    let failed = "etcdserver: authentication failed, invalid user ID or password";
    refused(client.auth().authenticate(wrong).await, failed)?;
    let walker = token(client, "walker", "w").await?;
    said(kv().put(with(put("a/1", "x"), &walker)).await)?;
    same!(said(kv().range(with(get("a/1"), &walker)).await)?.count, 1);
    refused(kv().put(with(put("b", "x"), &walker)).await, "etcdserver: permission denied")?;
    let beyond = pb::RangeRequest { range_end: "b".into(), ..get("a/") };
    refused(kv().range(with(beyond, &walker)).await, "etcdserver: permission denied")?;
    let list = with(pb::AuthUserListRequest {}, &walker);
    refused(client.auth().user_list(list).await, "etcdserver: permission denied")?;
    said(kv().put(with(put("b", "x"), root)).await)?;
    let status = said(client.auth().auth_status(with(pb::AuthStatusRequest {}, root)).await)?;
    holds!(status.enabled && status.auth_revision > 1, status);
    Ok(())
}

rows! {
    "users: add, get, list, change the password, delete; twice and missing" => |client| {
        forget(&client, &["u1"], &[]).await;
        user(&client, "u1", "p").await?;
        let again = pb::AuthUserAddRequest { name: text("u1"), password: text("p"), ..Default::default() };
        refused(client.auth().user_add(again).await, "etcdserver: user name already exists")?;
        let empty = pb::AuthUserAddRequest::default();
        refused(client.auth().user_add(empty).await, "etcdserver: user name is empty")?;
        let users = said(client.auth().user_list(pb::AuthUserListRequest {}).await)?.users;
        holds!(users.contains(&text("u1")), users);
        let change = pb::AuthUserChangePasswordRequest { name: text("u1"), password: text("q"), ..Default::default() };
        said(client.auth().user_change_password(change).await)?;
        said(client.auth().user_delete(pb::AuthUserDeleteRequest { name: text("u1") }).await)?;
        let missing = client.auth().user_get(pb::AuthUserGetRequest { name: text("u1") }).await;
        refused(missing, "etcdserver: user name not found")?;
        let missing = client.auth().user_delete(pb::AuthUserDeleteRequest { name: text("u1") }).await;
        refused(missing, "etcdserver: user name not found")
    }
    "roles: add, permissions, get, list, delete; twice and missing" => |client| {
        forget(&client, &[], &["r1"]).await;
        role(&client, "r1").await?;
        let again = client.auth().role_add(pb::AuthRoleAddRequest { name: text("r1") }).await;
        refused(again, "etcdserver: role name already exists")?;
        permit(&client, "r1", "k", "l").await?;
        let perms = said(client.auth().role_get(pb::AuthRoleGetRequest { role: text("r1") }).await)?.perm;
        holds!(perms.len() == 1 && perms[0].key == "k" && perms[0].range_end == "l", perms);
        let revoke = || pb::AuthRoleRevokePermissionRequest { role: text("r1"), key: "k".into(), range_end: "l".into() };
        said(client.auth().role_revoke_permission(revoke()).await)?;
        let again = client.auth().role_revoke_permission(revoke()).await;
        refused(again, "etcdserver: permission is not granted to the role")?;
        let roles = said(client.auth().role_list(pb::AuthRoleListRequest {}).await)?.roles;
        holds!(roles.contains(&text("r1")), roles);
        said(client.auth().role_delete(pb::AuthRoleDeleteRequest { role: text("r1") }).await)?;
        let missing = client.auth().role_get(pb::AuthRoleGetRequest { role: text("r1") }).await;
        refused(missing, "etcdserver: role name not found")
    }
    "roles of users: grant and revoke; a missing role" => |client| {
        forget(&client, &["u2"], &["r2"]).await;
        user(&client, "u2", "p").await?;
        role(&client, "r2").await?;
        grant_role(&client, "u2", "r2").await?;
        same!(said(client.auth().user_get(pb::AuthUserGetRequest { name: text("u2") }).await)?.roles, ["r2"]);
        let revoke = || pb::AuthUserRevokeRoleRequest { name: text("u2"), role: text("r2") };
        said(client.auth().user_revoke_role(revoke()).await)?;
        refused(client.auth().user_revoke_role(revoke()).await, "etcdserver: role is not granted to the user")?;
        let missing = pb::AuthUserGrantRoleRequest { user: text("u2"), role: text("none") };
        let found = client.auth().user_grant_role(missing).await;
        forget(&client, &["u2"], &["r2"]).await;
        refused(found, "etcdserver: role name not found")
    }
    "AuthEnable needs the user root; Authenticate needs authentication" => |client| {
        let none = pb::AuthenticateRequest { name: text("root"), password: text("r") };
        refused(client.auth().authenticate(none).await, "etcdserver: authentication is not enabled")?;
        refused(client.auth().auth_enable(pb::AuthEnableRequest {}).await, "etcdserver: root user does not exist")?;
        user(&client, "root", "r").await?;
        let roleless = client.auth().auth_enable(pb::AuthEnableRequest {}).await;
        forget(&client, &["root"], &[]).await;
        refused(roleless, "etcdserver: root user does not have root role")
    }
    "with authentication: tokens, permissions of ranges, administration by root alone" => |client| {
        forget(&client, &["root", "walker"], &["root", "walk"]).await;
        user(&client, "root", "r").await?;
        role(&client, "root").await?;
        grant_role(&client, "root", "root").await?;
        user(&client, "walker", "w").await?;
        role(&client, "walk").await?;
        permit(&client, "walk", "a/", "a0").await?;
        grant_role(&client, "walker", "walk").await?;
        said(client.auth().auth_enable(pb::AuthEnableRequest {}).await)?;
        let root = token(&client, "root", "r").await?;
        let checked = enabled(&client, &root).await;
        // Every other row needs it off again.
        said(client.auth().auth_disable(with(pb::AuthDisableRequest {}, &root)).await)?;
        forget(&client, &["root", "walker"], &["root", "walk"]).await;
        checked
    }
    "Lock and Unlock: one at a time, the key is the fence" => |client| {
        let lease = said(client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 }).await)?.id;
        let held = said(client.lock().lock(lock::LockRequest { name: "lock".into(), lease }).await)?;
        holds!(held.key.starts_with(b"lock/"), held);
        let mut second = client.lock();
        let wait = second.lock(lock::LockRequest { name: "lock".into(), lease: 0 });
        tokio::pin!(wait);
        let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut wait).await;
        holds!(early.is_err(), "the second one waits");
        said(client.lock().unlock(lock::UnlockRequest { key: held.key }).await)?;
        let next = said(wait.await)?;
        said(client.lock().unlock(lock::UnlockRequest { key: next.key }).await).map(drop)
    }
    "Campaign, Leader, Proclaim, Observe, Resign" => |client| {
        let lease = said(client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 }).await)?.id;
        let campaign = election::CampaignRequest { name: "e".into(), lease, value: "one".into() };
        let won = said(client.election().campaign(campaign).await)?.leader;
        holds!(won.as_ref().is_some_and(|leader| leader.rev > 0 && leader.lease == lease), won);
        let named = || election::LeaderRequest { name: "e".into() };
        let value = |answer: election::LeaderResponse| answer.kv.unwrap_or_default().value;
        same!(value(said(client.election().leader(named()).await)?), "one");
        let mut observed = said(client.election().observe(named()).await)?;
        let first = observed.message().await.map_err(|status| status.to_string())?.unwrap_or_default();
        same!(value(first), "one");
        let proclaim = election::ProclaimRequest { leader: won.clone(), value: "two".into() };
        said(client.election().proclaim(proclaim).await)?;
        let second = observed.message().await.map_err(|status| status.to_string())?.unwrap_or_default();
        same!(value(second), "two");
        said(client.election().resign(election::ResignRequest { leader: won }).await)?;
        refused(client.election().leader(named()).await, "election: no leader")
    }
}
