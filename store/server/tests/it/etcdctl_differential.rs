//! The commands of etcdctl 3.4 and 3.5 on a real etcd and on this store: exit codes and everything that they print must
//! be equal, once what differs by nature (ids, times, ports, sizes) is taken out.

// Tests start processes.
#![allow(clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use keelstone_env::Env;
use tempfile::TempDir;

use crate::common::{
    etcd::{self, Etcd},
    Cluster,
};

/// How long a command may take to say what it must.
const SAID_S_MAX: u64 = 20;
/// What ends a watch's output here.
const MARK: &str = "the-end";

/// Numbers that say how a member is built: only their places are compared.
const SHAPES: [&str; 4] = ["endpoint status", "endpoint hashkv", "snapshot status", "member list"];

/// Commands in order. `NAME = command` keeps the second word that is printed as `$NAME`; what follows `<<` is the
/// input. `$DIR` is a folder of each side.
const COMMANDS: &[&str] = &[
    "put a 1",
    "put a 2 --prev-kv",
    "put a --ignore-value",
    "put none --ignore-value",
    "put a 3 --ignore-value",
    "put b << from the input",
    "put c/1 x -w json",
    "put c/2 y -w fields",
    "put c/3 z -w table",
    "put",
    "get a",
    "get none",
    "get c/ --prefix",
    "get c/ --prefix --keys-only",
    "get c/ --prefix --limit 2 -w json",
    "get c/ --prefix -w fields",
    "get c/ --prefix -w json --keys-only --order DESCEND",
    "get --from-key b --sort-by MODIFY --order DESCEND",
    "get --from-key a --sort-by VALUE --order ASCEND --print-value-only",
    "get a z --sort-by CREATE",
    "get a z --sort-by VERSION --order DESCEND",
    "get a z --sort-by NONSENSE",
    "get a --hex",
    "get a --rev 2",
    "get a --rev 999",
    "get a --rev -1",
    "get a --consistency s",
    "get a --consistency x",
    "get a b c",
    "get a --prefix --from-key",
    "del none",
    "del c/3 --prev-kv",
    "del c/ --prefix -w json",
    "del b c",
    "del --from-key x",
    "del",
    "txn << value(\"a\") = \"2\"\nversion(\"a\") > \"1\"\n\nput t/1 yes\nget a\ndel none\n\nput t/1 no\n\n",
    "txn << create(\"t/1\") = \"0\"\n\nput t/2 new\n\nget t/1\n\n",
    "txn -w json << mod(\"none\") = \"0\"\n\nput t/3 x\n\n\n\n",
    "txn << nonsense\n\n\n\n\n\n",
    "txn << mod(\"a\") = \"0\"\n\n\n\nput d 1\nput d 2\n\n",
    "LEASE = lease grant 100",
    "lease grant 9000000001",
    "lease grant",
    "put leased x --lease=$LEASE",
    "put leased y --ignore-lease",
    "put other y --ignore-lease",
    "put leased x --lease=77",
    "lease timetolive $LEASE",
    "lease timetolive $LEASE --keys",
    "lease timetolive $LEASE --keys -w json",
    "lease timetolive 77",
    "lease list",
    "lease list -w json",
    "lease keep-alive --once $LEASE",
    "lease keep-alive --once 77",
    "lease revoke $LEASE",
    "lease revoke $LEASE",
    "lease revoke nonsense",
    "get leased",
    "compaction 3",
    "compaction 3",
    "compaction 5 --physical",
    "compaction 9999",
    "compaction nonsense",
    "get a --rev 2",
    "alarm list",
    "alarm disarm",
    "defrag",
    "endpoint health",
    "endpoint status",
    "endpoint hashkv",
    "member list",
    "move-leader 77",
    "snapshot save $DIR/snapshot.db",
    "snapshot status $DIR/snapshot.db",
    "snapshot restore $DIR/snapshot.db --data-dir $DIR/restored",
    "lock mutex echo held",
    "lock mutex false",
    "user add root:pw",
    "user add root:pw",
    "user add ann --new-user-password secret",
    "user add bob --interactive=false << secret\n",
    "user add bare --no-password",
    "user add",
    "user list",
    "user list -w json",
    "user get nobody",
    "role add keeper",
    "role add keeper",
    "role add root",
    "role list",
    "role get keeper",
    "role get nothing",
    "role grant-permission keeper readwrite k/ --prefix",
    "role grant-permission keeper read x",
    "role grant-permission keeper write y z",
    "role grant-permission keeper read w --from-key",
    "role grant-permission keeper nonsense x",
    "role grant-permission nothing read x",
    "role get keeper",
    "role get keeper -w json",
    "role revoke-permission keeper x",
    "role revoke-permission keeper x",
    "role revoke-permission keeper w --from-key",
    "user grant-role ann keeper",
    "user grant-role ann nothing",
    "user grant-role nobody keeper",
    "user get ann",
    "user get ann --detail",
    "user get ann -w json",
    "user revoke-role ann nothing",
    "user passwd bob --interactive=false << changed\n",
    "auth status",
    "auth enable",
    "auth enable --user root:pw",
    "auth status --user root:pw",
    "put k/1 v",
    "put k/1 v --user ann:secret",
    "get k/ --prefix --user ann:secret",
    "get a --user ann:secret",
    "put k/1 v --user ann:wrong",
    "put k/1 v --user bob:changed",
    "put k/1 v --user nobody:pw",
    "user list --user ann:secret",
    "user get ann --user ann:secret",
    "user delete root --user root:pw",
    "user revoke-role root root --user root:pw",
    "alarm disarm --user root:pw",
    "lock mutex echo held --user root:pw",
    "role delete keeper --user root:pw",
    "user get ann --user root:pw",
    "user delete ann --user root:pw",
    "user delete ann --user root:pw",
    "auth disable --user ann:secret",
    "auth disable --user root:pw",
    "auth disable",
    "user delete root",
    "user delete bob",
    "user delete bare",
    "role delete root",
    "role list",
    "del a --prefix",
    "version",
    "nonsense",
];

/// A learner comes, is refused its vote and goes; and all that is wrong with such commands. It does not move: when it is
/// told to, etcd 3.5.1 forgets that it is a learner.
const MEMBER_COMMANDS: &[&str] = &[
    "member add",
    "member add n1",
    "member add n1 --learner --peer-urls nonsense",
    "NEW = member add n1 --learner --peer-urls http://127.0.0.1:1",
    // Not the used URL alone: etcd hashes URLs and the second into an id, and would find that id in use in the same one.
    "member add n2 --learner --peer-urls http://127.0.0.1:1,http://127.0.0.1:5",
    "member add n2 --learner --peer-urls http://127.0.0.1:2",
    "member list",
    "member list -w table",
    "member update $NEW",
    "member update 77 --peer-urls http://127.0.0.1:4",
    "member update nonsense --peer-urls http://127.0.0.1:4",
    "member list",
    "member promote $NEW",
    "member promote 77",
    "member promote",
    "member remove 77",
    "member remove nonsense",
    "member remove",
    "member remove $NEW",
    "member remove $NEW",
    "member list",
];

/// One store, and what was kept of its answers.
struct Side {
    endpoints: Vec<String>,
    kept: BTreeMap<String, String>,
    dir: TempDir,
}

impl Side {
    fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints, kept: BTreeMap::new(), dir: TempDir::new().unwrap() }
    }

    fn command(&self, binary: &PathBuf, line: &str) -> Command {
        let mut command = Command::new(binary);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoints.join(",")]);
        let replaced = self.kept.iter().fold(line.to_owned(), |line, (name, value)| line.replace(name, value));
        command.args(replaced.replace("$DIR", &self.dir.path().display().to_string()).split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit code and output of a command that ends by itself.
    async fn run(&mut self, binary: &PathBuf, line: &str) -> String {
        let (command, input) = line.split_once(" << ").unwrap_or((line, ""));
        let (name, command) = match command.split_once(" = ") {
            Some((name, command)) => (Some(name), command),
            None => (None, command),
        };
        let (mut process, input) = (self.command(binary, command), input.to_owned());
        let work = move || {
            let mut child = process.spawn().unwrap();
            // It may not want any.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        };
        let output = Env::os().offload(work).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, errors) = (text(&output.stdout), text(&output.stderr));
        if let Some(name) = name {
            let word = said.split_whitespace().nth(1).unwrap_or_else(|| panic!("{line}: {said}{errors}"));
            self.kept.insert(format!("${name}"), word.to_owned());
        }
        // The client's log has addresses and times.
        let errors: String =
            errors.lines().filter(|line| !line.starts_with('{')).map(|line| line.to_owned() + "\n").collect();
        self.plain(&format!("{} {said}{errors}", output.status.code().unwrap_or(-1)))
    }

    /// What a command that goes on prints until it prints the mark.
    async fn until_mark(&self, binary: &PathBuf, line: &str) -> String {
        let mut child = Ended(self.command(binary, line).spawn().unwrap());
        let output = BufReader::new(child.0.stdout.take().unwrap());
        let read = move || {
            let mut text = String::new();
            for line in output.lines().map_while(Result::ok) {
                text += &format!("{line}\n");
                if line.contains(MARK) {
                    break;
                }
            }
            text
        };
        let said = tokio::time::timeout(Duration::from_secs(SAID_S_MAX), Env::os().offload(read)).await;
        drop(child);
        self.plain(&said.unwrap_or_else(|_| panic!("{line} does not say {MARK}")))
    }

    /// Without ids, times and places.
    fn plain(&self, text: &str) -> String {
        let mut text = text.replace(&self.dir.path().display().to_string(), "DIR");
        for endpoint in &self.endpoints {
            text = text.replace(endpoint.as_str(), "ENDPOINT");
        }
        for (before, after) in [
            ("took = ", "\n"),
            ("remaining(", ")"),
            ("\"raft_term\":", "}"),
            ("\"RaftTerm\" : ", "\n"),
            ("\"ttl\":", ","),
            ("took ", "\n"),
            ("Finished defragmenting etcd member[ENDPOINT]", "\n"),
        ] {
            text = blanked(&text, before, after);
        }
        without_ids(&text)
    }
}

/// Replaces whatever stands between two texts.
fn blanked(text: &str, before: &str, after: &str) -> String {
    let mut parts = text.split(before);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.find(after).map_or("", |at| &part[at..]);
        plain += &format!("{before}*{rest}");
    }
    plain
}

/// Long hexadecimal and decimal numbers are ids.
fn without_ids(text: &str) -> String {
    let mut plain = String::new();
    let mut number = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_digit() || ('a'..='f').contains(&letter) {
            number.push(letter);
            continue;
        }
        plain += if number.len() >= 13 { "ID" } else { &number };
        number.clear();
        plain.push(letter);
    }
    plain
}

/// The words of a text alone: no numbers, no units, no hashes.
fn shape(text: &str) -> String {
    let word = |word: &str| match word.chars().any(|letter| letter.is_ascii_digit()) {
        true => "N".to_owned(),
        false => word.to_owned(),
    };
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '.').filter(|word| !word.is_empty());
    words.map(word).filter(|word| !["B", "kB", "MB", "GB", "ID"].contains(&&word[..])).collect::<Vec<_>>().join(" ")
}

/// A process that ends with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// etcdctl of Debian, and of etcd 3.5 if it is there.
fn binaries() -> Vec<PathBuf> {
    [etcd::find("ETCDCTL", "/usr/bin/etcdctl"), etcd::newest("etcdctl")].into_iter().flatten().collect()
}

async fn sides(members: usize) -> Option<(Etcd, Cluster, Side, Side)> {
    let etcd = Etcd::start_newest(members).await?;
    let cluster = Cluster::start_with(members, |config| config.bcrypt_cost = 4).await;
    let (theirs, ours) = (Side::new(etcd.endpoints.clone()), Side::new(cluster.endpoints()));
    Some((etcd, cluster, theirs, ours))
}

async fn all_commands(binary: &PathBuf) {
    let Some((_etcd, cluster, mut theirs, mut ours)) = sides(1).await else { return };
    let mut differences = Vec::new();
    for line in COMMANDS {
        let (expected, found) = tokio::join!(theirs.run(binary, line), ours.run(binary, line));
        let same = match SHAPES.iter().any(|command| line.starts_with(command)) {
            true => shape(&expected) == shape(&found),
            false => expected == found,
        };
        if !same {
            differences.push(format!("{line}\n  etcd: {expected:?}\n  ours: {found:?}\n"));
        }
    }
    cluster.stop_all().await;
    let shown = differences.join("\n");
    assert!(differences.is_empty(), "{}: {} differences:\n{shown}", binary.display(), differences.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_prints_what_it_prints_with_etcd() {
    for binary in binaries() {
        all_commands(&binary).await;
    }
}

/// Commands that go on until they are stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_elections_print_what_they_print_with_etcd() {
    let Some((_etcd, cluster, mut theirs, mut ours)) = sides(1).await else { return };
    let binaries = binaries();
    for line in ["put w/1 a", "put w/2 b", "del w/1", "put w/1 c", &format!("put w/3 {MARK}")] {
        tokio::join!(theirs.run(&binaries[0], line), ours.run(&binaries[0], line));
    }
    let lines = [
        "watch w/ --prefix --rev 1",
        "watch w/ --prefix --rev 3 --prev-kv",
        "watch w/1 z --rev 4 -w fields --prev-kv",
        "watch w/ --prefix --rev 2 -w simple --progress-notify",
        &format!("watch w/3 --rev 1 -- echo {MARK}"),
    ];
    for (number, binary) in binaries.iter().enumerate() {
        // An office of its own: whoever is ended without notice keeps the last one until its lease ends.
        let elect = format!("elect office{number} {MARK}");
        for line in lines.into_iter().chain([&elect[..]]) {
            let (expected, found) = tokio::join!(theirs.until_mark(binary, line), ours.until_mark(binary, line));
            assert_eq!(found, expected, "{line}");
        }
    }
    cluster.stop_all().await;
}

/// Members are listed by their ids, which are drawn: the words are compared in order of the alphabet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_as_with_etcd() {
    let Some((_etcd, cluster, mut theirs, mut ours)) = sides(1).await else { return };
    // A member of ours serves its clients before the others know where.
    let published = async { while !ours.run(&binaries()[0], "member list").await.contains("ENDPOINT") {} };
    tokio::time::timeout(Duration::from_secs(SAID_S_MAX), published)
        .await
        .expect("the member says where its clients are");
    let words = |text: &str| {
        let mut words: Vec<String> = shape(text).split(' ').map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    for (binary, n) in binaries().into_iter().zip(1..) {
        for line in MEMBER_COMMANDS {
            // Ports of its own for each: etcd would find the id of the member that was removed in the same second.
            let line = &line.replace("http://127.0.0.1:", &format!("http://127.0.0.1:{n}"));
            let (expected, found) = tokio::join!(theirs.run(&binary, line), ours.run(&binary, line));
            assert_eq!(words(&found), words(&expected), "{line}\n  etcd: {expected:?}\n  ours: {found:?}");
        }
    }
    cluster.stop_all().await;
}

/// Keys go from here to a real etcd, and from there to here, old ones and new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_are_made_in_both_directions() {
    let Some((_etcd, cluster, mut theirs, mut ours)) = sides(1).await else { return };
    for binary in binaries() {
        for to_etcd in [true, false] {
            let (from, to) = if to_etcd { (&mut ours, &mut theirs) } else { (&mut theirs, &mut ours) };
            from.run(&binary, "put m/old 1").await;
            let line = format!("make-mirror --prefix m/ --dest-prefix copy/ {}", to.endpoints[0]);
            let mirror = Ended(from.command(&binary, &line).spawn().unwrap());
            let copied = async |to: &mut Side, wanted: &str| {
                let all = async { while to.run(&binary, "get copy/ --prefix").await != wanted {} };
                let done = tokio::time::timeout(Duration::from_secs(SAID_S_MAX), all).await;
                assert!(done.is_ok(), "{wanted:?} did not arrive");
            };
            copied(to, "0 copy/old\n1\n\n").await;
            from.run(&binary, "put m/new 2").await;
            copied(to, "0 copy/new\n2\ncopy/old\n1\n\n").await;
            from.run(&binary, "del m/ --prefix").await;
            copied(to, "0 \n").await;
            drop(mirror);
        }
    }
    cluster.stop_all().await;
}

/// Health, status and leadership of three members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_are_shown_as_by_etcd() {
    let Some((_etcd, cluster, mut theirs, mut ours)) = sides(3).await else { return };
    for binary in binaries() {
        for line in ["put a 1", "endpoint health", "endpoint hashkv", "member list", "alarm list", "defrag"] {
            let expected = shape(&theirs.run(&binary, line).await);
            // Members learn of each other's client URLs one after the other.
            let same = async { while shape(&ours.run(&binary, line).await) != expected {} };
            let same = tokio::time::timeout(Duration::from_secs(SAID_S_MAX), same).await;
            assert!(same.is_ok(), "{line}: {expected}, not {}", ours.run(&binary, line).await);
        }
        let (expected, found) = tokio::join!(moved_leader(&mut theirs, &binary), moved_leader(&mut ours, &binary));
        assert_eq!(found, expected);
    }
    cluster.stop_all().await;
}

/// Gives the leadership to a follower; what is said, and whether the follower leads then.
async fn moved_leader(side: &mut Side, binary: &PathBuf) -> (String, bool) {
    let (leader, follower) = leader_and_follower(side, binary).await;
    assert_ne!(leader, follower);
    let said = side.run(binary, &format!("move-leader {follower}")).await;
    let moved = async { while leader_and_follower(side, binary).await.0 != follower {} };
    (said, tokio::time::timeout(Duration::from_secs(SAID_S_MAX), moved).await.is_ok())
}

/// The ids, as the members' status says them.
async fn leader_and_follower(side: &Side, binary: &PathBuf) -> (String, String) {
    let mut command = side.command(binary, "endpoint status");
    let output = Env::os().offload(move || command.output().unwrap()).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let mut leader = String::new();
    let mut follower = String::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(", ").collect();
        *(if fields[4] == "true" { &mut leader } else { &mut follower }) = fields[1].to_owned();
    }
    (leader, follower)
}
