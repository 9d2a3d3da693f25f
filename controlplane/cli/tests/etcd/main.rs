//! The binary in etcd's place: its flags, variables and configuration file, one member and three, driven by etcdctl.

// Tests start processes.
#![allow(clippy::disallowed_methods)]

mod member;

use std::{path::Path, process::Command, time::Duration};

use member::{etcd, free_ports, Ctl, Member};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// Exit code and output.
fn output(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn with(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = etcd(dir);
    command.args(arguments);
    command
}

/// A member alone, on two ports.
fn alone(dir: &Path, ports: &[u16], more: &[&str]) -> Command {
    let (client, peer) = (format!("http://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1]));
    let mut command = with(dir, &["--name=one", "-data-dir", "data", "--listen-client-urls", &client]);
    command.args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
    command.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("one={peer}")]);
    command.args(more);
    command
}

#[test]
fn what_it_prints_and_how_it_fails_is_etcds() {
    let dir = TempDir::new().unwrap();
    let (code, text) = output(with(dir.path(), &["--version"]));
    assert!(code == 0 && text.starts_with("etcd Version: 3.") && text.contains("Go OS/Arch: linux/"), "{text}");
    let (code, text) = output(with(dir.path(), &["--help"]));
    assert!(code == 0 && text.contains("--initial-cluster-token 'etcd-cluster'"), "{text}");
    let (code, text) = output(with(dir.path(), &["--nonsense=1"]));
    assert!(code == 2 && text.starts_with("flag provided but not defined: -nonsense\nUsage:\n"), "{text}");
    let (code, text) = output(with(dir.path(), &["--heartbeat-interval=abc"]));
    assert!(code == 2 && text.starts_with("invalid value \"abc\" for flag -heartbeat-interval: parse error\n"));
    let mut both = with(dir.path(), &["--name=a"]);
    both.env("ETCD_NAME", "b");
    let (code, text) = output(both);
    assert!(code == 1 && text.contains("conflicting environment variable"), "{text}");
    let (code, text) = output(with(dir.path(), &["--initial-cluster=a=http://localhost:1"]));
    assert!(code == 1 && text.contains("couldn't find local name"), "{text}");
    std::fs::create_dir_all(dir.path().join("old/member/wal")).unwrap();
    let (code, text) = output(with(dir.path(), &["--data-dir=old"]));
    assert!(code == 1 && text.contains("holds data of etcd itself"), "{text}");
    // The same command by the project's own name.
    let mut own = Command::new(env!("CARGO_BIN_EXE_keelstone"));
    own.args(["store", "--version"]);
    assert!(output(own).1.starts_with("etcd Version: 3."));
}

#[test]
fn one_member_keeps_its_data_over_a_restart() {
    let (dir, ports) = (TempDir::new().unwrap(), free_ports(2));
    let endpoints = [format!("127.0.0.1:{}", ports[0])];
    let Some(ctl) = Ctl::find(&endpoints) else { return };
    let first = Member::start(alone(dir.path(), &ports, &["--enable-v2=true", "--snapshot-count=5"]), dir.path(), "a");
    first.wait_until_ready();
    assert_eq!(ctl.run(&["put", "a", "1"]), "OK\n");
    let members = ctl.run(&["member", "list"]);
    assert!(members.contains(&format!("started, one, http://127.0.0.1:{}", ports[1])), "{members}");
    let log = first.log();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["ts"].is_string() && line["msg"].is_string(), "{line}");
    }
    assert!(log.contains("ready to serve client requests"), "{log}");
    assert_eq!(log.matches("these flags are ignored: --enable-v2").count(), 1, "{log}");
    assert!(first.terminate().success());

    // By variables this time.
    let mut command = etcd(dir.path());
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    command.env("ETCD_NAME", "one").env("ETCD_DATA_DIR", "data").env("ETCD_LOG_LEVEL", "warn");
    command.env("ETCD_LISTEN_CLIENT_URLS", url(ports[0])).env("ETCD_ADVERTISE_CLIENT_URLS", url(ports[0]));
    command.env("ETCD_LISTEN_PEER_URLS", url(ports[1])).env("ETCD_INITIAL_ADVERTISE_PEER_URLS", url(ports[1]));
    command.env("ETCD_INITIAL_CLUSTER", format!("one={}", url(ports[1])));
    let second = Member::start(command, dir.path(), "b");
    second.wait_until_ready();
    assert_eq!(ctl.run(&["get", "a"]), "a\n1\n");
    assert!(!second.log().contains("\"level\":\"info\""), "{}", second.log());
    assert!(second.terminate().success());
}

#[test]
fn a_configuration_file_with_several_listeners_and_auto_compaction() {
    let (dir, ports) = (TempDir::new().unwrap(), free_ports(4));
    let [client, other, metrics, peer] = [0, 1, 2, 3].map(|i| format!("http://127.0.0.1:{}", ports[i]));
    let text = format!(
        "name: filed\ndata-dir: data\nlisten-client-urls: {client},{other}\nadvertise-client-urls: {client}\n\
         listen-metrics-urls: {metrics}\nlisten-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n\
         initial-cluster: filed={peer}\nauto-compaction-mode: revision\nauto-compaction-retention: \"10\"\n\
         log-outputs: [stderr, file.log]\n"
    );
    std::fs::write(dir.path().join("etcd.yml"), text).unwrap();
    let member = Member::start(with(dir.path(), &["--config-file", "etcd.yml"]), dir.path(), "filed");
    member.wait_until_ready();
    let Some(ctl) = Ctl::find(&[other]) else { return };
    for i in 0..40 {
        ctl.run(&["put", "k", &i.to_string()]);
    }
    // The last ten revisions stay; before, history goes within a few rounds.
    let compacted = (0..100).any(|_| {
        let (found, text) = ctl.try_run(&["get", "k", "--rev", "20"]);
        std::thread::sleep(Duration::from_millis(100));
        !found && text.contains("required revision has been compacted")
    });
    assert!(compacted, "{}", member.log());
    assert_eq!(ctl.run(&["get", "k", "--rev", "36"]), "k\n34\n");
    let metrics_alone =
        Ctl::find(&[metrics]).unwrap().with(&["--command-timeout=1s".into(), "--dial-timeout=1s".into()]);
    assert!(!metrics_alone.try_run(&["get", "k"]).0);
    assert!(std::fs::read_to_string(dir.path().join("file.log")).unwrap().contains("auto compaction"));
    assert!(member.terminate().success());
}

#[test]
fn three_members_lose_one_and_go_on() {
    let (dir, ports) = (TempDir::new().unwrap(), free_ports(6));
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let initial: Vec<String> = (0..3).map(|i| format!("m{i}={}", url(ports[3 + i]))).collect();
    let mut members: Vec<Member> = (0..3)
        .map(|i| {
            let (client, peer) = (url(ports[i]), url(ports[3 + i]));
            let mut command = with(dir.path(), &["--name", &format!("m{i}"), "--data-dir", &format!("data{i}")]);
            command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &initial.join(","), "--initial-cluster-token", "three"]);
            command.args(["--initial-cluster-state", "new", "--heartbeat-interval=100", "--election-timeout=1000"]);
            command.args(["--logger=zap", "--log-outputs=stderr", "--auto-compaction-retention=1"]);
            Member::start(command, dir.path(), &format!("m{i}"))
        })
        .collect();
    members.iter().for_each(Member::wait_until_ready);
    let endpoints: Vec<String> = (0..3).map(|i| format!("127.0.0.1:{}", ports[i])).collect();
    let Some(ctl) = Ctl::find(&endpoints) else { return };
    assert_eq!(ctl.run(&["put", "a", "1"]), "OK\n");
    let health = ctl.run(&["endpoint", "health"]);
    assert_eq!(health.matches("is healthy").count(), 3, "{health}");
    let lost = members.remove(0);
    lost.signal(Signal::SIGKILL);
    drop(lost);
    let rest = Ctl::find(&endpoints[1..]).unwrap();
    assert_eq!(rest.run(&["get", "a"]), "a\n1\n");
    assert_eq!(rest.run(&["put", "a", "2"]), "OK\n");
    for member in members {
        assert!(member.terminate().success());
    }
}
