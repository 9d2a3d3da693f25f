//! Every flag of etcd 3.4, 3.5 and 3.6, and the few of our own, declared once: the command line, the environment, the configuration file,
//! the help text and what is said about ignored flags all come from here.

/// How a flag's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    Uint,
    /// As Go writes durations: `1h30m`, `100ms`.
    Duration,
    /// Comma-separated `http(s)://host:port`.
    Urls,
    OneOf(&'static [&'static str]),
}

/// What a flag does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Used,
    /// Accepted, and said to be ignored for this reason if it is given.
    Ignored(&'static str),
    /// Another value than the default is refused: going on without would be less safe than what was asked for.
    Refused(&'static str),
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub effect: Effect,
    pub help: &'static str,
}

impl Flag {
    /// The environment variable of a flag: `--data-dir` is `ETCD_DATA_DIR`.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// All flags, in the order of the help text.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|(_, flags)| flags.iter())
}

const fn used(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, effect: Effect::Used, help }
}

const fn ignored(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag { name, kind, default, effect: Effect::Ignored(why), help: "" }
}

const fn refused(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Flag {
    Flag { name, kind, default, effect: Effect::Refused(why), help: "" }
}

use Kind::{Bool, Duration, OneOf, Text, Uint, Urls};

const BACKEND: &str = "there is no bbolt backend";
const V2: &str = "the v2 API is not served";
const TRACING: &str = "there is no distributed tracing";
const DISCOVERY: &str = "there is no discovery; name the members with --initial-cluster";
const BUILT_IN: &str = "it is always done";
const STEPS: &str = "compaction runs in steps beside traffic";
const ROTATION: &str = "log files are rotated from outside";
const KEEPALIVE: &str = "connections are pinged at intervals of their own";
const PROXY: &str = "there is no proxy";

/// The flags by the headings of the help text.
pub const GROUPS: &[(&str, &[Flag])] = &[
    ("Member", MEMBER),
    ("Clustering", CLUSTERING),
    ("Security", SECURITY),
    ("Auth", AUTH),
    ("Monitoring", MONITORING),
    ("Logging", LOGGING),
    ("Keelstone's own", OWN),
    ("Accepted and ignored, or refused", OTHERS),
];

const MEMBER: &[Flag] = &[
    used("name", Text, "default", "Human-readable name of this member."),
    used("data-dir", Text, "", "The folder of this member's data; '${name}.etcd' if it is not given."),
    used("config-file", Text, "", "A YAML file with all settings; flags and variables are ignored with it."),
    used("heartbeat-interval", Uint, "100", "Time between heartbeats, in milliseconds."),
    used("election-timeout", Uint, "1000", "Time in milliseconds after which a silent leader is replaced at the latest; 600 if neither this nor the heartbeat is given."),
    used("listen-peer-urls", Urls, "http://localhost:2380", "Where the other members are served."),
    used("listen-client-urls", Urls, "http://localhost:2379", "Where clients are served; several are possible."),
    used("quota-backend-bytes", Uint, "0", "Size beyond which writes are refused; 0 is the default quota."),
    used("max-txn-ops", Uint, "128", "Operations in a transaction."),
    used("max-request-bytes", Uint, "1572864", "Size of a request in bytes."),
    used("snapshot-catchup-entries", Uint, "10000", "Entries kept in the log for members that lag."),
    used("watch-progress-notify-interval", Duration, "10m", "Time between progress notes of an idle watch."),
    used("experimental-watch-progress-notify-interval", Duration, "10m", "The same, by its older name."),
    used("auto-compaction-mode", Text, "periodic", "'periodic' or 'revision'."),
    used(
        "auto-compaction-retention",
        Text,
        "0",
        "What auto compaction keeps: hours or a duration; revisions. 0 is off.",
    ),
];

const CLUSTERING: &[Flag] = &[
    used("initial-advertise-peer-urls", Urls, "http://localhost:2380", "Where the others reach this member."),
    used("initial-cluster", Text, "", "All first members: name=url,name=url,..."),
    used("initial-cluster-state", OneOf(&["new", "existing"]), "new", "'existing' for a member that was added."),
    used("initial-cluster-token", Text, "etcd-cluster", "Tells clusters apart that have the same URLs."),
    used("advertise-client-urls", Urls, "http://localhost:2379", "Where clients reach this member."),
];

const SECURITY: &[Flag] = &[
    used("cert-file", Text, "", "Certificate of the client listener."),
    used("key-file", Text, "", "Its key."),
    used("client-cert-auth", Bool, "false", "Refuse clients without a certificate."),
    used("trusted-ca-file", Text, "", "Authority that clients' certificates are checked against."),
    used("peer-cert-file", Text, "", "Certificate of the peer listener, and towards other members."),
    used("peer-key-file", Text, "", "Its key."),
    used("peer-client-cert-auth", Bool, "false", "Refuse members without a certificate."),
    used("peer-trusted-ca-file", Text, "", "Authority that members' certificates are checked against."),
    refused("client-crl-file", Text, "", "revocation lists are not read"),
    refused("peer-crl-file", Text, "", "revocation lists are not read"),
    refused("client-cert-allowed-hostname", Text, "", "names in clients' certificates are not checked"),
    refused("peer-cert-allowed-cn", Text, "", "names in members' certificates are not checked"),
    refused("peer-cert-allowed-hostname", Text, "", "names in members' certificates are not checked"),
    refused("auto-tls", Bool, "false", "certificates are not made here"),
    refused("peer-auto-tls", Bool, "false", "certificates are not made here"),
    refused("cipher-suites", Text, "", "cipher suites are the TLS library's"),
    ignored("tls-min-version", Text, "", "TLS 1.2 and 1.3 are offered"),
    ignored("tls-max-version", Text, "", "TLS 1.2 and 1.3 are offered"),
    ignored("self-signed-cert-validity", Uint, "1", "certificates are not made here"),
    ignored("peer-skip-client-san-verification", Bool, "false", "only the authority is checked"),
    ignored("experimental-peer-skip-client-san-verification", Bool, "false", "only the authority is checked"),
    refused("cors", Text, "*", "every origin is allowed"),
    refused("host-whitelist", Text, "*", "every host name is allowed"),
];

const AUTH: &[Flag] = &[
    used("auth-token", Text, "simple", "'simple', or 'jwt' with its options."),
    used("bcrypt-cost", Uint, "10", "Cost of hashing passwords, 4 to 31."),
    used("auth-token-ttl", Uint, "300", "How long a simple token lives without use, in seconds."),
];

const MONITORING: &[Flag] = &[
    used("listen-metrics-urls", Urls, "", "More listeners, for metrics and health alone."),
    ignored("metrics", OneOf(&["basic", "extensive"]), "basic", "all metrics are always there"),
    ignored("enable-pprof", Bool, "false", "there is no Go runtime to look into"),
];

const LOGGING: &[Flag] = &[
    used("log-level", Text, "info", "debug, info, warn, error, panic or fatal."),
    used("log-outputs", Text, "default", "'stderr', 'stdout' or files, comma-separated."),
    used("logger", OneOf(&["zap", "capnslog"]), "zap", "Lines of JSON whichever is named."),
    used("log-format", OneOf(&["json", "console"]), "json", "'json' or 'console'."),
    ignored("enable-log-rotation", Bool, "false", ROTATION),
    ignored("log-rotation-config-json", Text, "", ROTATION),
    ignored("debug", Bool, "false", "use --log-level=debug"),
    ignored("log-output", Text, "default", "use --log-outputs"),
    ignored("log-package-levels", Text, "", "use --log-level"),
];

/// What etcd does not have.
const OWN: &[Flag] = &[
    used(
        "history-retention",
        Duration,
        "0s",
        "No compaction takes what is younger; the same on all members. 0s is off.",
    ),
    used("backup-dir", Text, "", "A folder to which this member backs its state up continuously."),
    used("backup-keep", Uint, "7", "Full backups that are kept there, at least 1."),
];

const OTHERS: &[Flag] = &[
    ignored("wal-dir", Text, "", "the log lies in the data folder"),
    ignored("snapshot-count", Uint, "100000", "snapshots are views that cost nothing to make"),
    ignored("max-snapshots", Uint, "5", "there are no snapshot files to keep"),
    ignored("max-wals", Uint, "5", "the log keeps what lagging members need"),
    ignored("initial-election-tick-advance", Bool, "true", BUILT_IN),
    ignored("pre-vote", Bool, "true", BUILT_IN),
    ignored("strict-reconfig-check", Bool, "true", BUILT_IN),
    ignored("backend-bbolt-freelist-type", Text, "map", BACKEND),
    ignored("backend-batch-interval", Text, "", BACKEND),
    ignored("backend-batch-limit", Uint, "0", BACKEND),
    ignored("experimental-backend-bbolt-freelist-type", Text, "map", BACKEND),
    ignored("experimental-txn-mode-write-with-shared-buffer", Bool, "true", BACKEND),
    ignored("bootstrap-defrag-threshold-megabytes", Uint, "0", BACKEND),
    ignored("experimental-bootstrap-defrag-threshold-megabytes", Uint, "0", BACKEND),
    ignored("stop-grpc-service-on-defrag", Bool, "false", BACKEND),
    ignored("experimental-stop-grpc-service-on-defrag", Bool, "false", BACKEND),
    ignored("memory-mlock", Bool, "false", BACKEND),
    ignored("experimental-memory-mlock", Bool, "false", BACKEND),
    ignored("grpc-keepalive-min-time", Duration, "5s", KEEPALIVE),
    ignored("grpc-keepalive-interval", Duration, "2h", KEEPALIVE),
    ignored("grpc-keepalive-timeout", Duration, "20s", KEEPALIVE),
    ignored("max-concurrent-streams", Uint, "4294967295", "there is a bound for each connection"),
    ignored("socket-reuse-port", Bool, "false", "addresses are reused as the system has it"),
    ignored("socket-reuse-address", Bool, "false", "addresses are reused as the system has it"),
    ignored("enable-v2", Bool, "false", V2),
    ignored("v2-deprecation", Text, "not-yet", V2),
    ignored("experimental-enable-v2v3", Text, "", V2),
    ignored("enable-grpc-gateway", Bool, "true", BUILT_IN),
    ignored("initial-corrupt-check", Bool, "false", BUILT_IN),
    ignored("experimental-initial-corrupt-check", Bool, "false", BUILT_IN),
    ignored("corrupt-check-time", Duration, "0s", BUILT_IN),
    ignored("experimental-corrupt-check-time", Duration, "0s", BUILT_IN),
    ignored("compact-hash-check-enabled", Bool, "false", BUILT_IN),
    ignored("experimental-compact-hash-check-enabled", Bool, "false", BUILT_IN),
    ignored("compact-hash-check-time", Duration, "1m", BUILT_IN),
    ignored("experimental-compact-hash-check-time", Duration, "1m", BUILT_IN),
    ignored("compaction-batch-limit", Uint, "1000", STEPS),
    ignored("experimental-compaction-batch-limit", Uint, "1000", STEPS),
    ignored("compaction-sleep-interval", Duration, "10ms", STEPS),
    ignored("experimental-compaction-sleep-interval", Duration, "10ms", STEPS),
    ignored("experimental-enable-lease-checkpoint", Bool, "false", "a new leader gives each lease its full time"),
    ignored(
        "experimental-enable-lease-checkpoint-persist",
        Bool,
        "false",
        "a new leader gives each lease its full time",
    ),
    ignored("experimental-warning-apply-duration", Duration, "100ms", "slow applies show in the metrics"),
    ignored("warning-apply-duration", Duration, "100ms", "slow applies show in the metrics"),
    ignored("warning-unary-request-duration", Duration, "300ms", "slow requests show in the metrics"),
    ignored("experimental-warning-unary-request-duration", Duration, "300ms", "slow requests show in the metrics"),
    ignored("max-learners", Uint, "1", "the bound is built in"),
    ignored("experimental-max-learners", Uint, "1", "the bound is built in"),
    ignored("experimental-snapshot-catchup-entries", Uint, "5000", "use --snapshot-catchup-entries"),
    ignored("experimental-wait-cluster-ready-timeout", Duration, "5s", "clients are served at once"),
    ignored("downgrade-check-time", Duration, "5s", "there is no downgrade to look for"),
    ignored("experimental-downgrade-check-time", Duration, "5s", "there is no downgrade to look for"),
    ignored("feature-gates", Text, "", "there are no feature gates"),
    ignored("experimental-enable-distributed-tracing", Bool, "false", TRACING),
    ignored("experimental-distributed-tracing-address", Text, "localhost:4317", TRACING),
    ignored("experimental-distributed-tracing-service-name", Text, "etcd", TRACING),
    ignored("experimental-distributed-tracing-instance-id", Text, "", TRACING),
    ignored("experimental-distributed-tracing-sampling-rate", Uint, "0", TRACING),
    ignored("enable-distributed-tracing", Bool, "false", TRACING),
    ignored("distributed-tracing-address", Text, "localhost:4317", TRACING),
    ignored("distributed-tracing-service-name", Text, "etcd", TRACING),
    ignored("distributed-tracing-instance-id", Text, "", TRACING),
    ignored("distributed-tracing-sampling-rate", Uint, "0", TRACING),
    ignored("unsafe-no-fsync", Bool, "false", "the log is always synced"),
    ignored("experimental-set-member-localaddr", Bool, "false", "the system chooses the local address"),
    ignored("discovery-fallback", OneOf(&["exit", "proxy"]), "proxy", DISCOVERY),
    ignored("discovery-proxy", Text, "", DISCOVERY),
    refused("discovery", Text, "", DISCOVERY),
    refused("discovery-token", Text, "", DISCOVERY),
    refused("discovery-endpoints", Text, "", DISCOVERY),
    refused("discovery-srv", Text, "", DISCOVERY),
    refused("discovery-srv-name", Text, "", DISCOVERY),
    refused("force-new-cluster", Bool, "false", "see the operating manual on a cluster without a quorum"),
    refused("proxy", OneOf(&["off", "readonly", "on"]), "off", PROXY),
    ignored("proxy-failure-wait", Uint, "5000", PROXY),
    ignored("proxy-refresh-interval", Uint, "30000", PROXY),
    ignored("proxy-dial-timeout", Uint, "1000", PROXY),
    ignored("proxy-write-timeout", Uint, "5000", PROXY),
    ignored("proxy-read-timeout", Uint, "0", PROXY),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_flag_is_declared_twice() {
        let names: Vec<&str> = all().map(|flag| flag.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert_eq!(find("data-dir").unwrap().variable(), "ETCD_DATA_DIR");
    }
}
