//! The commands of docs/operating.md on members and disasters, by the binary, on real processes and RocksDB.

// Tests start processes and touch files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use common::{eventually, fails, free_address, ok, run, Running};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// Where a member lives.
struct Place {
    name: String,
    data: PathBuf,
    client: String,
    peer: String,
}

impl Place {
    fn new(dir: &Path, name: &str) -> Self {
        let (client, peer) = (free_address(), format!("http://{}", free_address()));
        Self { name: name.to_owned(), data: dir.join(name), client, peer }
    }

    fn data(&self) -> &str {
        self.data.to_str().unwrap()
    }

    fn start(&self, how: &[&str]) -> Running {
        let client = format!("http://{}", self.client);
        let member = ["store", "--name", &self.name, "--data-dir", self.data()];
        let clients = ["--listen-client-urls", &client, "--advertise-client-urls", &client];
        let peers = ["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer];
        Running::start(&[&member[..], &clients[..], &peers[..], how].concat())
    }

    /// The first member of a cluster.
    fn start_first(&self) -> Running {
        self.start(&["--initial-cluster", &format!("{}={}", self.name, self.peer)])
    }

    /// With the flags that adding it has printed.
    fn start_added(&self, said: &str) -> Running {
        let flags = said.lines().nth(1).unwrap();
        assert!(flags.starts_with(&format!("--name {} --initial-cluster ", self.name)), "{said}");
        let flags: Vec<&str> = flags.split(' ').skip(2).collect();
        self.start(&flags)
    }

    /// A command for the cluster, through this member.
    fn member<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["store", "member", "--endpoints", &self.client], arguments].concat()
    }

    fn voters(&self) -> usize {
        let output = run(&self.member(&["list"]));
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("\tvoter\t")).count()
    }

    /// Puts through the JSON gateway; true once it was acknowledged.
    fn puts(&self, key: &str) -> bool {
        self.post("put", &format!(r#"{{"key":"{}","value":"eA=="}}"#, base64(key))).contains("revision")
    }

    fn has(&self, key: &str) -> bool {
        self.post("range", &format!(r#"{{"key":"{}"}}"#, base64(key))).contains(r#""count":"1""#)
    }

    fn post(&self, method: &str, body: &str) -> String {
        use std::io::{Read, Write};
        let answer = || -> std::io::Result<String> {
            let mut stream = std::net::TcpStream::connect(&self.client)?;
            stream.set_read_timeout(Some(Duration::from_secs(15)))?;
            let length = body.len();
            write!(
                stream,
                "POST /v3/kv/{method} HTTP/1.1\r\nhost: store\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        answer().unwrap_or_default()
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn a_cluster_grows_replaces_a_dead_member_shrinks_and_outlives_its_quorum() {
    let dir = TempDir::new().unwrap();
    let [m0, m1, m2] = ["m0", "m1", "m2"].map(|name| Place::new(dir.path(), name));
    let first = m0.start_first();
    eventually("the first member takes writes", || m0.puts("alone"));

    let second = m1.start_added(&ok(&m0.member(&["add", "m1", &m1.peer])));
    eventually("the second member votes", || m0.voters() == 2);
    let third = m2.start_added(&ok(&m0.member(&["add", "m2", &m2.peer])));
    eventually("the third member votes", || m0.voters() == 3);
    assert!(m2.puts("three") && m1.has("alone"));
    assert!(fails(&m0.member(&["add", "m9", &m1.peer])).contains("Peer URLs already exists"));
    assert!(fails(&m0.member(&["promote", "m1"])).contains("can only promote a learner member"));
    assert!(fails(&m0.member(&["remove", "m7"])).contains("no member \"m7\""));

    // A dead member, whose disk is gone too: one command, then its successor is started.
    third.signal(Signal::SIGKILL);
    std::fs::remove_dir_all(&m2.data).unwrap();
    assert!(m0.puts("without m2"));
    let mut said = String::new();
    eventually("the dead member is replaced", || {
        // While it still counts as answering, its loss would be one too many.
        let output = run(&m0.member(&["replace", "m2"]));
        said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    let third = m2.start_added(&said);
    eventually("its successor votes", || m0.voters() == 3 && m2.has("without m2"));
    // Started again with the flags of its first start: the folder knows better.
    third.signal(Signal::SIGTERM);
    let all = [&m0, &m1, &m2].map(|place| format!("{}={}", place.name, place.peer)).join(",");
    let third = m2.start(&["--initial-cluster", &all, "--initial-cluster-state", "existing"]);
    eventually("it is there again", || m2.puts("again"));

    // Shrink: the removed member ends in order, and stays away.
    assert!(ok(&m0.member(&["remove", "m2"])).starts_with("removed "));
    assert_eq!(third.wait().code(), Some(0));
    let again = m2.start(&["--initial-cluster", &all, "--initial-cluster-state", "existing"]);
    assert_eq!(again.wait().code(), Some(1));
    eventually("two are left", || m0.voters() == 2 && m1.puts("two"));

    // One of two is lost for good: no quorum, ever. What is left goes on alone.
    first.signal(Signal::SIGKILL);
    std::fs::remove_dir_all(&m0.data).unwrap();
    assert!(!m1.puts("nobody"));
    assert!(fails(&["store", "recover", "--data-dir", m1.data()]).contains("use"), "it runs");
    second.signal(Signal::SIGTERM);
    let plan = ok(&["store", "recover", "--data-dir", m1.data()]);
    assert!(plan.contains("LOST: whatever the cluster acknowledged after entry") && plan.contains(" m0"), "{plan}");
    assert!(plan.contains("nothing was changed"), "{plan}");
    assert!(ok(&["store", "recover", "--data-dir", m1.data(), "--yes"]).contains("done: start this member as before"));
    let alone = m1.start(&["--initial-cluster", &all, "--initial-cluster-state", "existing"]);
    eventually("it goes on alone", || m1.puts("recovered") && m1.has("two") && m1.voters() == 1);
    let grown = m0.start_added(&ok(&m1.member(&["add", "m0", &m0.peer])));
    eventually("it grows again", || m1.voters() == 2 && m0.has("recovered"));
    for member in [alone, grown] {
        assert_eq!(member.signal(Signal::SIGTERM).code(), Some(0));
    }
}
