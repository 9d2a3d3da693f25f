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
}

impl Etcdctl {
    /// `None`, said on the output, if there is no binary.
    fn find(cluster: &Cluster) -> Option<Self> {
        let binary = etcd::find("ETCDCTL", "/usr/bin/etcdctl")?;
        Some(Self { binary, endpoints: cluster.endpoints().join(",") })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoints]).args(args);
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
    let add = ctl.fail(&["member", "add", "m9", "--peer-urls", "http://127.0.0.1:1"]).await;
    assert!(add.contains("not served by this store"), "{add}");
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
