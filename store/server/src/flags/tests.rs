use std::{collections::BTreeMap, io, path::Path, time::Duration};

use super::*;
use crate::{AutoCompaction, StoreConfig};

fn no_file(path: &Path) -> io::Result<String> {
    Err(io::Error::new(io::ErrorKind::NotFound, path.display().to_string()))
}

fn run_in(line: &str, variables: &[(&str, &str)]) -> Result<Settings, FlagsError> {
    let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    match parse(&arguments, &variables, no_file)? {
        Command::Run(settings) => Ok(*settings),
        other => panic!("{other:?}"),
    }
}

fn run(line: &str) -> Result<Settings, FlagsError> {
    run_in(line, &[])
}

fn refused(line: &str) -> String {
    match run(line) {
        Err(FlagsError::Refused(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

fn usage(line: &str) -> String {
    match run(line) {
        Err(FlagsError::Usage(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn nothing_given_is_etcds_default() {
    let settings = run("").unwrap();
    assert_eq!(settings.store.name, "default");
    assert_eq!(settings.store.data_dir, Path::new("default.etcd"));
    assert_eq!(settings.store.listen_client, "localhost:2379");
    assert_eq!(settings.store.listen_peer, "localhost:2380");
    assert_eq!(settings.store.advertise_client_urls, ["http://localhost:2379"]);
    assert_eq!(settings.store.initial_cluster[0].peer_url, "http://localhost:2380");
    assert_eq!(settings.store.cluster_token, "etcd-cluster");
    assert!(settings.store.bootstrap && settings.store.auto_compaction.is_none());
    assert_eq!(settings.store.timing.election_max, StoreConfig::new("", vec![], "").timing.election_max);
    assert!(settings.notes.is_empty());
}

#[test]
fn both_spellings_and_the_last_of_several() {
    let settings = run("-name a --data-dir=/d -heartbeat-interval=50 --election-timeout 500 --name=b --enable-v2 \
                        --listen-client-urls=http://h:1,http://i:2 --advertise-client-urls=http://h:1 \
                        --listen-metrics-urls http://h:3 --initial-cluster-state existing \
                        --initial-cluster b=http://localhost:2380,c=http://c:2380 --max-txn-ops=7")
    .unwrap();
    assert_eq!((settings.store.name.as_str(), settings.store.txn_ops_max), ("b", 7));
    assert_eq!(settings.store.timing.heartbeat, Duration::from_millis(50));
    assert_eq!(settings.store.timing.election_timeout(), Duration::from_millis(500));
    assert_eq!(settings.store.listen_client, "h:1");
    let more: Vec<_> = settings.store.more_listeners.iter().map(|l| (l.address.as_str(), l.metrics_only)).collect();
    assert_eq!(more, [("i:2", false), ("h:3", true)]);
    assert!(!settings.store.bootstrap);
    assert_eq!(settings.notes, ["these flags are ignored: --enable-v2 (the v2 API is not served)"]);
}

#[test]
fn wrong_command_lines_are_told_in_etcds_words() {
    assert_eq!(usage("--nonsense"), "flag provided but not defined: -nonsense");
    assert_eq!(usage("--name"), "flag needs an argument: -name");
    assert_eq!(usage("--heartbeat-interval=abc"), "invalid value \"abc\" for flag -heartbeat-interval: parse error");
    assert_eq!(usage("--enable-v2=foo"), "invalid boolean value \"foo\" for -enable-v2: parse error");
    assert_eq!(
        usage("--initial-cluster-state=foo"),
        "invalid value \"foo\" for flag -initial-cluster-state: invalid value"
    );
    assert_eq!(refused("positional"), "'positional' is not a valid flag");
    assert_eq!(refused("--enable-v2 false"), "'false' is not a valid flag");
    assert_eq!(
        refused("--election-timeout=100 --heartbeat-interval=100"),
        "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]"
    );
    assert_eq!(
        refused("--listen-client-urls=http://localhost:22379"),
        "--advertise-client-urls is required when --listen-client-urls is set explicitly"
    );
    assert_eq!(
        refused("--initial-cluster=a=http://localhost:1"),
        "couldn't find local name \"default\" in the initial cluster configuration"
    );
    assert_eq!(refused("--auto-compaction-mode=foo"), "unknown auto-compaction-mode \"foo\"");
    assert!(refused("--auto-compaction-retention=foo").starts_with("error parsing CompactionRetention: "));
    assert!(usage("--log-level=foo").contains("unrecognized level"));
    assert!(refused("--discovery=http://x").contains("--discovery is not supported"));
    assert!(refused("--peer-cert-allowed-cn=x").contains("not supported"));
    assert!(refused("--cert-file=a").contains("must both be present"));
    assert!(refused("--listen-client-urls=https://h:1 --advertise-client-urls=https://h:1").contains("TLS key/cert"));
    assert!(usage("--listen-peer-urls=tcp://h:1").contains("URL scheme must be http"));
    assert!(refused("--initial-cluster=default=http://other:1").contains("missing from --initial-advertise-peer-urls"));
}

#[test]
fn variables_fill_in_and_never_contradict() {
    let settings = run_in(
        "--name a --initial-cluster a=http://localhost:2380",
        &[
            ("ETCD_DATA_DIR", "/from/variable"),
            ("ETCD_ENABLE_V2", "true"),
            ("ETCD_FOO", "1"),
            ("ETCD_UNSUPPORTED_ARCH", "arm64"),
        ],
    )
    .unwrap();
    assert_eq!(settings.store.data_dir, Path::new("/from/variable"));
    assert_eq!(settings.notes[1], "unrecognized environment variables: ETCD_FOO");
    let both = run_in("--name a", &[("ETCD_NAME", "b")]).unwrap_err();
    assert!(both.to_string().contains("conflicting environment variable \"ETCD_NAME\" is shadowed"));
    let wrong = run_in("", &[("ETCD_HEARTBEAT_INTERVAL", "x")]).unwrap_err();
    assert!(wrong.to_string().contains("ETCD_HEARTBEAT_INTERVAL"));
}

#[test]
fn a_configuration_file_stands_alone() {
    let text = "name: f\ndata-dir: /f\nheartbeat-interval: 200\nelection-timeout: 2000\ninitial-cluster: \
                f=http://localhost:2380\nlog-outputs: [stderr, /x.log]\nclient-transport-security:\n  cert-file: c\n  \
                key-file: k\n  trusted-ca-file: ca\n  client-cert-auth: true\nexperimental-watch-progress-notify-interval: \
                2000000000\nauto-compaction-mode: revision\nauto-compaction-retention: \"5\"\nsomething: else\n";
    let read = |path: &Path| {
        assert_eq!(path, Path::new("/etc/etcd.yml"));
        Ok(text.to_owned())
    };
    let arguments = ["--config-file=/etc/etcd.yml".to_owned(), "--name=ignored".to_owned()];
    let variables = BTreeMap::from([("ETCD_DATA_DIR".to_owned(), "/ignored".to_owned())]);
    let Command::Run(settings) = parse(&arguments, &variables, read).unwrap() else { panic!() };
    assert_eq!((settings.store.name.as_str(), settings.store.data_dir.as_path()), ("f", Path::new("/f")));
    assert_eq!(settings.store.watch_progress_interval, Duration::from_secs(2));
    assert_eq!(settings.store.auto_compaction, Some(AutoCompaction::Revision(5)));
    assert_eq!(settings.log.outputs, ["stderr", "/x.log"]);
    assert_eq!(settings.client_tls.identity, Some(("c".into(), "k".into())));
    assert!(settings.client_tls.certificate_required);
    assert!(settings.notes.iter().any(|note| note.ends_with("mean nothing: something")));
    for wrong in ["[]", "name: [[a: b]]", "heartbeat-interval: x", "a: : b"] {
        assert!(file::config_file(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn retention_is_hours_durations_or_revisions() {
    let of = |line: &str| run(line).unwrap().store.auto_compaction;
    assert_eq!(of("--auto-compaction-retention=2"), Some(AutoCompaction::Periodic(Duration::from_secs(7_200))));
    assert_eq!(of("--auto-compaction-retention=90s"), Some(AutoCompaction::Periodic(Duration::from_secs(90))));
    assert_eq!(of("--auto-compaction-retention=0"), None);
    assert_eq!(
        of("--auto-compaction-mode=revision --auto-compaction-retention=1000"),
        Some(AutoCompaction::Revision(1_000))
    );
    assert_eq!(of("--auto-compaction-mode=revision"), None);
}

#[test]
fn auth_is_set_up_as_said() {
    let of = |line: &str| {
        let settings = run(line).unwrap();
        let store = settings.store;
        (store.auth_token, store.bcrypt_cost, store.auth_token_ttl.as_secs(), settings.notes.len())
    };
    assert_eq!(of(""), ("simple".into(), 10, 300, 0));
    let jwt = "jwt,pub-key=/k.pub,priv-key=/k,sign-method=RS256,ttl=10m";
    assert_eq!(of(&format!("--auth-token={jwt} --bcrypt-cost=4 --auth-token-ttl=60")), (jwt.into(), 4, 60, 0));
    assert_eq!(of("--bcrypt-cost=32 --auth-token-ttl=0"), ("simple".into(), 10, 300, 1));
}

#[test]
fn help_and_version_come_from_the_table() {
    for flag in table::all() {
        assert!(help().contains(&format!("--{} ", flag.name)), "{}", flag.name);
    }
    assert!(matches!(parse(&["--help".into()], &BTreeMap::new(), no_file), Ok(Command::Help)));
    assert!(matches!(parse(&["-version".into()], &BTreeMap::new(), no_file), Ok(Command::Version)));
    assert!(version().starts_with("etcd Version: 3."));
}

proptest::proptest! {
    /// Whatever the arguments, variables and file are, they are read or refused.
    #[test]
    fn nothing_panics(arguments in proptest::collection::vec("(-{0,3}[a-z-]{0,20}=?.{0,12}|--name|--config-file)", 0..6),
                      value in ".{0,16}", text in "[a-z:\\- \\n\\[\\]{}\"0-9]{0,200}") {
        let variables = table::all().step_by(7).map(|flag| (flag.variable(), value.clone())).collect();
        let _ = parse(&arguments, &variables, |_| Ok(text.clone()));
        for flag in table::all() {
            let _ = read::check(flag, &value);
        }
    }
}

#[test]
fn flags_of_our_own() {
    assert!(run("").unwrap().store.backup.is_none() && run("").unwrap().store.history_retention.is_none());
    let store = run("--history-retention=1h30m --backup-dir /b --backup-keep 3").unwrap().store;
    assert_eq!(store.history_retention, Some(Duration::from_secs(5_400)));
    let backup = store.backup.unwrap();
    assert_eq!((backup.dir.as_path(), backup.keep), (Path::new("/b"), 3));
    assert_eq!(run("--backup-dir /b").unwrap().store.backup.unwrap().keep, keelstone_backup::constants::FULLS_KEPT);
    assert_eq!(refused("--backup-dir /b --backup-keep=0"), "--backup-keep must be at least 1");
}
