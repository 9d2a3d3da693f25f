//! Debian's etcdctl (`apt-get install etcd-client`) against one member and against three.

// Tests start processes.
#![allow(clippy::disallowed_methods)]

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::common::{etcd, Cluster};

struct Etcdctl {
    binary: PathBuf,
    endpoints: String,
    user: Option<String>,
}

impl Etcdctl {
    /// `None`, said on the output, if there is no binary.
    fn find(cluster: &Cluster) -> Option<Self> {
        let binary = etcd::find("ETCDCTL", "/usr/bin/etcdctl")?;
        Some(Self { binary, endpoints: cluster.endpoints().join(","), user: None })
    }

    /// The same as a user, `name:password`.
    fn of(&self, user: &str) -> Self {
        Self { binary: self.binary.clone(), endpoints: self.endpoints.clone(), user: Some(user.to_owned()) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoints]);
        if let Some(user) = &self.user {
            command.args(["--user", user]);
        }
        command.args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Output and error output, and whether it succeeded.
    async fn run_with(&self, args: &[&str], input: &'static str) -> (bool, String, String) {
        let mut command = self.command(args);
        let work = move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.success(), text(output.stdout), text(output.stderr))
        };
        keelstone_env::Env::os().offload(work).await
    }

    /// The output of a command that must succeed.
    async fn run(&self, args: &[&str]) -> String {
        let (success, output, errors) = self.run_with(args, "").await;
        assert!(success, "{args:?}: {output}{errors}");
        output
    }

    /// The error output of a command that must fail.
    async fn fail(&self, args: &[&str]) -> String {
        let (success, output, errors) = self.run_with(args, "").await;
        assert!(!success, "{args:?}: {output}");
        errors
    }
}

async fn keys_and_values(ctl: &Etcdctl) {
    assert_eq!(ctl.run(&["put", "fruit/apple", "red"]).await, "OK\n");
    assert_eq!(ctl.run(&["put", "fruit/pear", "green"]).await, "OK\n");
    assert_eq!(ctl.run(&["put", "fruit/apple", "yellow", "--prev-kv"]).await, "OK\nfruit/apple\nred\n");
    assert_eq!(ctl.run(&["get", "fruit/", "--prefix"]).await, "fruit/apple\nyellow\nfruit/pear\ngreen\n");
    assert_eq!(ctl.run(&["get", "fruit/", "--prefix", "--keys-only", "--limit", "1"]).await, "fruit/apple\n\n");
    assert_eq!(ctl.run(&["get", "fruit/apple", "--print-value-only", "--consistency", "s"]).await, "yellow\n");
    let descending = ["get", "", "--from-key", "--order", "DESCEND", "--sort-by", "MODIFY", "--keys-only"];
    assert_eq!(ctl.run(&descending).await, "fruit/apple\n\nfruit/pear\n\n");
    assert_eq!(ctl.run(&["del", "fruit/pear"]).await, "1\n");
    assert_eq!(ctl.run(&["del", "fruit/pear"]).await, "0\n");
    assert!(ctl.fail(&["get", "x", "--rev", "99999"]).await.contains("required revision is a future revision"));
    let txn = "value(\"fruit/apple\") = \"yellow\"\n\nput fruit/plum blue\nget fruit/plum\n\nput no no\n\n";
    let (success, output, errors) = ctl.run_with(&["txn"], txn).await;
    assert!(success && output == "SUCCESS\n\nOK\n\nfruit/plum\nblue\n", "{output}{errors}");
    let (_, output, _) =
        ctl.run_with(&["txn"], "version(\"fruit/plum\") > \"7\"\n\nput a b\n\nget fruit/plum\n\n").await;
    assert_eq!(output, "FAILURE\n\nfruit/plum\nblue\n");
    assert_eq!(ctl.run(&["del", "", "--prefix"]).await, "2\n");
}

async fn leases(ctl: &Etcdctl) {
    let granted = ctl.run(&["lease", "grant", "100"]).await;
    let id = granted.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(100s)\n"));
    assert_eq!(ctl.run(&["put", "--lease", &id, "leased", "x"]).await, "OK\n");
    let left = ctl.run(&["lease", "timetolive", &id, "--keys"]).await;
    assert!(left.starts_with(&format!("lease {id} granted with TTL(100s), remaining(")), "{left}");
    assert!(left.ends_with("attached keys([leased])\n"), "{left}");
    let kept = ctl.run(&["lease", "keep-alive", "--once", &id]).await;
    assert_eq!(kept, format!("lease {id} keepalived with TTL(100)\n"));
    assert_eq!(ctl.run(&["lease", "list"]).await, format!("found 1 leases\n{id}\n"));
    assert_eq!(ctl.run(&["lease", "revoke", &id]).await, format!("lease {id} revoked\n"));
    assert_eq!(ctl.run(&["get", "leased"]).await, "");
    assert_eq!(ctl.run(&["lease", "timetolive", &id]).await, format!("lease {id} already expired\n"));
    assert!(ctl.fail(&["lease", "revoke", &id]).await.contains("requested lease not found"));
    assert!(ctl.fail(&["put", "--lease", &id, "a", "b"]).await.contains("requested lease not found"));
}

async fn watch(ctl: &Etcdctl) {
    ctl.run(&["put", "w/1", "a"]).await;
    let revision = ctl.run(&["get", "w/1", "-w", "json"]).await;
    let revision: serde_json::Value = serde_json::from_str(&revision).unwrap();
    let start = revision["kvs"][0]["mod_revision"].to_string();
    let mut watching = ctl.command(&["watch", "w/", "--prefix", "--rev", &start, "--prev-kv"]).spawn().unwrap();
    let output = BufReader::new(watching.stdout.take().unwrap());
    ctl.run(&["put", "w/2", "b"]).await;
    ctl.run(&["del", "w/1"]).await;
    let read = move || output.lines().take(9).map(Result::unwrap).collect::<Vec<_>>();
    let lines = tokio::time::timeout(std::time::Duration::from_secs(10), keelstone_env::Env::os().offload(read)).await;
    watching.kill().unwrap();
    watching.wait().unwrap();
    let expected = ["PUT", "w/1", "a", "PUT", "w/2", "b", "DELETE", "w/1", "a"];
    assert_eq!(lines.unwrap(), expected);
}

async fn cluster_commands(ctl: &Etcdctl, members: usize) {
    let health = ctl.run_with(&["endpoint", "health"], "").await;
    let text = format!("{}{}", health.1, health.2);
    assert_eq!(text.matches("is healthy").count(), members, "{text}");
    let status = ctl.run(&["endpoint", "status"]).await;
    let leaders = status.lines().filter(|line| line.split(", ").nth(4) == Some("true")).count();
    assert_eq!((status.lines().count(), leaders), (members, 1), "{status}");
    let hashes = ctl.run(&["endpoint", "hashkv"]).await;
    let mut distinct: Vec<&str> = hashes.lines().filter_map(|line| line.split(", ").nth(1)).collect();
    distinct.dedup();
    assert_eq!((hashes.lines().count(), distinct.len()), (members, 1), "{hashes}");
    let list = ctl.run(&["member", "list"]).await;
    assert_eq!(list.lines().count(), members);
    assert!(list.lines().all(|line| line.contains(", started, m") && line.ends_with("false")), "{list}");
    assert_eq!(ctl.run(&["alarm", "list"]).await, "");
    assert!(ctl.run(&["defrag"]).await.contains("Finished defragmenting"));
    let compacted = ctl.run(&["compaction", "3", "--physical"]).await;
    assert_eq!(compacted, "compacted revision 3\n");
    assert!(ctl.fail(&["get", "a", "--rev", "2"]).await.contains("required revision has been compacted"));
    let add = ctl.run(&["member", "add", "m9", "--peer-urls", "http://127.0.0.1:1"]).await;
    let id = add.split_whitespace().nth(1).unwrap();
    let removed = ctl.run(&["member", "remove", id]).await;
    assert!(removed.contains("removed from cluster"), "{removed}");
}

/// Every command about users, roles and auth, and what they are good for.
async fn users_and_roles(ctl: &Etcdctl) {
    assert_eq!(ctl.run(&["user", "add", "root:pw"]).await, "User root created\n");
    assert_eq!(ctl.run(&["role", "add", "keeper"]).await, "Role keeper created\n");
    let granted = ctl.run(&["role", "grant-permission", "keeper", "readwrite", "fruit/", "--prefix"]).await;
    assert_eq!(granted, "Role keeper updated\n");
    ctl.run(&["role", "grant-permission", "keeper", "read", "x", "--from-key"]).await;
    let (ok, said, errors) = ctl.run_with(&["user", "add", "alice", "--interactive=false"], "secret\n").await;
    assert!(ok && said == "User alice created\n", "{said}{errors}");
    assert_eq!(ctl.run(&["user", "grant-role", "alice", "keeper"]).await, "Role keeper is granted to user alice\n");
    // etcdctl gives root its role by itself.
    assert_eq!(ctl.run(&["auth", "enable"]).await, "Authentication Enabled\n");

    let (root, alice) = (ctl.of("root:pw"), ctl.of("alice:secret"));
    assert!(ctl.fail(&["put", "fruit/apple", "red"]).await.contains("user name is empty"));
    let wrong = ctl.of("alice:wrong").fail(&["get", "fruit/apple"]).await;
    assert!(wrong.contains("authentication failed, invalid user ID or password"), "{wrong}");
    assert_eq!(alice.run(&["put", "fruit/apple", "red"]).await, "OK\n");
    assert_eq!(alice.run(&["get", "fruit/", "--prefix"]).await, "fruit/apple\nred\n");
    assert!(alice.fail(&["put", "x", "1"]).await.contains("permission denied"));
    assert_eq!(alice.run(&["get", "x", "--from-key"]).await, "");
    assert!(alice.fail(&["user", "list"]).await.contains("permission denied"));
    assert_eq!(root.run(&["user", "list"]).await, "alice\nroot\n");
    assert_eq!(root.run(&["role", "list"]).await, "keeper\nroot\n");
    assert_eq!(alice.run(&["user", "get", "alice"]).await, "User: alice\nRoles: keeper\n");
    let role = root.run(&["role", "get", "keeper"]).await;
    assert!(role.contains("[fruit/, fruit0) (prefix fruit/)") && role.contains("[x, <open ended>"), "{role}");
    let (ok, said, errors) = root.run_with(&["user", "passwd", "alice", "--interactive=false"], "new\n").await;
    assert!(ok && said == "Password updated\n", "{said}{errors}");
    let alice = ctl.of("alice:new");
    assert_eq!(alice.run(&["del", "fruit/apple"]).await, "1\n");
    root.run(&["role", "revoke-permission", "keeper", "fruit/", "--prefix"]).await;
    assert!(alice.fail(&["get", "fruit/apple"]).await.contains("permission denied"));
    let revoked = root.run(&["user", "revoke-role", "alice", "keeper"]).await;
    assert_eq!(revoked, "Role keeper is revoked from user alice\n");
    assert_eq!(root.run(&["role", "delete", "keeper"]).await, "Role keeper deleted\n");
    assert_eq!(root.run(&["user", "delete", "alice"]).await, "User alice deleted\n");
    assert!(root.fail(&["user", "delete", "root"]).await.contains("invalid auth management"));
    assert_eq!(root.run(&["auth", "disable"]).await, "Authentication Disabled\n");
    assert_eq!(ctl.run(&["put", "x", "1"]).await, "OK\n");
    assert_eq!(ctl.run(&["user", "delete", "root"]).await, "User root deleted\n");
    ctl.run(&["del", "", "--prefix"]).await;
}

/// etcdctl's own recipes: a lock around a command, and an election.
async fn locks_and_elections(ctl: &Etcdctl) {
    assert_eq!(ctl.run(&["lock", "mutex", "echo", "held"]).await, "held\n");
    let mut leader = ctl.command(&["elect", "office", "first"]).spawn().unwrap();
    let mut output = BufReader::new(leader.stdout.take().unwrap());
    let read = move || {
        let (mut key, mut value) = (String::new(), String::new());
        output.read_line(&mut key).unwrap();
        output.read_line(&mut value).unwrap();
        (key, value)
    };
    let said = tokio::time::timeout(std::time::Duration::from_secs(10), keelstone_env::Env::os().offload(read)).await;
    leader.kill().unwrap();
    leader.wait().unwrap();
    let (key, value) = said.unwrap();
    assert!(key.starts_with("office/") && value == "first\n", "{key}{value}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_locks_and_elections() {
    let cluster = Cluster::start_with(3, |config| config.bcrypt_cost = 4).await;
    if let Some(ctl) = Etcdctl::find(&cluster) {
        users_and_roles(&ctl).await;
        locks_and_elections(&ctl).await;
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member() {
    let cluster = Cluster::start(1).await;
    if let Some(ctl) = Etcdctl::find(&cluster) {
        keys_and_values(&ctl).await;
        leases(&ctl).await;
        watch(&ctl).await;
        cluster_commands(&ctl, 1).await;
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members() {
    let cluster = Cluster::start(3).await;
    if let Some(ctl) = Etcdctl::find(&cluster) {
        keys_and_values(&ctl).await;
        leases(&ctl).await;
        watch(&ctl).await;
        cluster_commands(&ctl, 3).await;
    }
    cluster.stop_all().await;
}
