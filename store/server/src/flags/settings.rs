use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use keelstone_backup::archive::RecorderOptions;

use super::{
    duration,
    error::FlagsError,
    read::{boolean, urls, Url},
    table::{self, Effect},
};
use crate::{
    auto_compaction::AutoCompaction,
    config::MoreListener,
    constants::{BCRYPT_COST, BCRYPT_COST_MAX, BCRYPT_COST_MIN, ELECTION_TIMEOUT_MS_MAX, HEARTBEATS_PER_ELECTION_MIN},
    InitialMember, StoreConfig, Timing,
};

/// What flags say, put together.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Without TLS, whose files are for the caller to read.
    pub store: StoreConfig,
    pub client_tls: TlsFiles,
    pub peer_tls: TlsFiles,
    pub log: LogSettings,
    /// What was given and does nothing, or may surprise: one line each.
    pub notes: Vec<String>,
}

/// The files of one side's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate and key; plaintext without.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub trusted_ca: Option<PathBuf>,
    /// Refuse the other side without a certificate.
    pub certificate_required: bool,
}

/// How is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// A level of `tracing`.
    pub level: &'static str,
    pub outputs: Vec<String>,
    pub json: bool,
}

/// The flags' texts, the defaults where nothing was given.
struct Values<'a>(&'a BTreeMap<&'static str, String>);

impl Values<'_> {
    fn given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or_else(|| table::find(name).map_or("", |flag| flag.default), String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        // What was given was read once already.
        self.text(name).parse().unwrap_or_default()
    }

    fn size(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    fn switch(&self, name: &str) -> bool {
        boolean(self.text(name)).unwrap_or_default()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    fn urls(&self, name: &str) -> Result<Vec<Url>, FlagsError> {
        urls(self.text(name)).map_err(|why| FlagsError::Refused(format!("--{name}: {why}")))
    }

    /// At least one URL.
    fn some_urls(&self, name: &str) -> Result<Vec<Url>, FlagsError> {
        let urls = self.urls(name)?;
        (!urls.is_empty()).then_some(urls).ok_or_else(|| FlagsError::Refused(format!("--{name} has no URL")))
    }
}

impl Settings {
    /// Puts flags together.
    ///
    /// # Errors
    /// [`FlagsError::Refused`] if they contradict each other or ask for what there is not, in etcd's words where it
    /// has some.
    pub fn from_flags(given: &BTreeMap<&'static str, String>) -> Result<Self, FlagsError> {
        let values = Values(given);
        let mut notes = refuse_and_note(given)?;
        if values.given("listen-client-urls") && !values.given("advertise-client-urls") {
            let said = "--advertise-client-urls is required when --listen-client-urls is set explicitly";
            return Err(FlagsError::Refused(said.into()));
        }
        let name = values.text("name").to_owned();
        let data_dir = match values.text("data-dir") {
            "" => format!("{name}.etcd"),
            dir => dir.to_owned(),
        };
        let mut store = StoreConfig::new(&name, initial_cluster(&values, &name)?, data_dir);
        store.cluster_token = values.text("initial-cluster-token").to_owned();
        store.bootstrap = values.text("initial-cluster-state") == "new";
        listeners(&values, &mut store, &mut notes)?;
        timing(&values, &mut store)?;
        store.limits.kept_entries = values.number("snapshot-catchup-entries");
        if values.number("quota-backend-bytes") > 0 {
            store.quota_bytes = values.number("quota-backend-bytes");
        }
        store.txn_ops_max = values.size("max-txn-ops");
        store.request_bytes_max = values.size("max-request-bytes");
        store.watch_progress_interval = progress_interval(&values);
        store.auto_compaction = auto_compaction(&values)?;
        auth(&values, &mut store, &mut notes);
        store.history_retention = duration::parse(values.text("history-retention")).filter(|time| !time.is_zero());
        store.backup = backup(&values)?;
        Ok(Self {
            store,
            client_tls: tls_files(&values, "cert-file", "key-file", "trusted-ca-file", "client-cert-auth")?,
            peer_tls: tls_files(
                &values,
                "peer-cert-file",
                "peer-key-file",
                "peer-trusted-ca-file",
                "peer-client-cert-auth",
            )?,
            log: log(&values)?,
            notes,
        })
    }
}

/// Refuses what must not be passed over, and says what is.
fn refuse_and_note(given: &BTreeMap<&'static str, String>) -> Result<Vec<String>, FlagsError> {
    let mut ignored = Vec::new();
    for (name, value) in given {
        let Some(flag) = table::find(name) else { continue };
        match flag.effect {
            Effect::Used => {}
            Effect::Ignored(why) => ignored.push(format!("--{name} ({why})")),
            Effect::Refused(_) if value == flag.default => {}
            Effect::Refused(why) => {
                return Err(FlagsError::Refused(format!("--{name} is not supported: {why}")));
            }
        }
    }
    Ok(match ignored.is_empty() {
        true => Vec::new(),
        false => vec![format!("these flags are ignored: {}", ignored.join(", "))],
    })
}

fn initial_cluster(values: &Values<'_>, name: &str) -> Result<Vec<InitialMember>, FlagsError> {
    let own = values.some_urls("initial-advertise-peer-urls")?;
    let refuse = |text: String| Err(FlagsError::Refused(text));
    let members = match values.text("initial-cluster") {
        "" => vec![InitialMember { name: name.to_owned(), peer_url: own[0].text.clone() }],
        text => {
            let listed = InitialMember::parse_list(text).map_err(|error| FlagsError::Refused(error.to_string()))?;
            // A URL is read as etcd does, with or without a slash at its end.
            let trimmed = |member: InitialMember| InitialMember {
                peer_url: member.peer_url.trim_end_matches('/').to_owned(),
                ..member
            };
            listed.into_iter().map(trimmed).collect()
        }
    };
    let mut listed = members.iter().filter(|member| member.name == name).map(|member| &member.peer_url).peekable();
    if listed.peek().is_none() {
        return refuse(format!("couldn't find local name \"{name}\" in the initial cluster configuration"));
    }
    if let Some(missing) = listed.find(|url| !own.iter().any(|own| own.text == **url)) {
        let advertised = own.iter().map(|url| url.text.as_str()).collect::<Vec<_>>().join(",");
        let all = values.text("initial-cluster");
        return refuse(format!(
            "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({all})"
        ));
    }
    Ok(members)
}

fn listeners(values: &Values<'_>, store: &mut StoreConfig, notes: &mut Vec<String>) -> Result<(), FlagsError> {
    let clients = values.some_urls("listen-client-urls")?;
    let peers = values.some_urls("listen-peer-urls")?;
    store.listen_client = clients[0].address.clone();
    store.listen_client_tls = clients[0].tls;
    store.listen_peer = peers[0].address.clone();
    if peers.len() > 1 {
        notes.push(format!("members are served on {} alone", peers[0].text));
    }
    let more = |metrics_only| move |url: Url| MoreListener { address: url.address, tls: url.tls, metrics_only };
    store.more_listeners.extend(clients.into_iter().skip(1).map(more(false)));
    store.more_listeners.extend(values.urls("listen-metrics-urls")?.into_iter().map(more(true)));
    let with_key = values.path("cert-file").is_some() && values.path("key-file").is_some();
    let wanted = store.listen_client_tls || store.more_listeners.iter().any(|listener| listener.tls);
    if wanted && !with_key {
        let text = "TLS key/cert (--cert-file, --key-file) must be provided for client urls with HTTPS scheme";
        return Err(FlagsError::Refused(text.into()));
    }
    store.advertise_client_urls = values.urls("advertise-client-urls")?.into_iter().map(|url| url.text).collect();
    Ok(())
}

fn timing(values: &Values<'_>, store: &mut StoreConfig) -> Result<(), FlagsError> {
    let (heartbeat, election) = (values.number("heartbeat-interval"), values.number("election-timeout"));
    let refuse = |text: String| Err(FlagsError::Refused(text));
    if heartbeat == 0 {
        return refuse("--heartbeat-interval must be >0 (set to 0ms)".into());
    }
    if election == 0 {
        return refuse("--election-timeout must be >0 (set to 0ms)".into());
    }
    if heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION_MIN) > election {
        return refuse(format!(
            "--election-timeout[{election}ms] should be at least as {HEARTBEATS_PER_ELECTION_MIN} times as \
             --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_TIMEOUT_MS_MAX {
        return refuse(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_TIMEOUT_MS_MAX}ms"
        ));
    }
    // Ours are shorter than etcd's: they stay unless somebody asks for others.
    if values.given("heartbeat-interval") || values.given("election-timeout") {
        store.timing = Timing::new(Duration::from_millis(election), Duration::from_millis(heartbeat));
    }
    Ok(())
}

fn progress_interval(values: &Values<'_>) -> Duration {
    let older = "experimental-watch-progress-notify-interval";
    let name = if values.given(older) { older } else { "watch-progress-notify-interval" };
    duration::parse(values.text(name)).filter(|interval| !interval.is_zero()).unwrap_or(Duration::from_secs(600))
}

fn auto_compaction(values: &Values<'_>) -> Result<Option<AutoCompaction>, FlagsError> {
    let text = values.text("auto-compaction-retention");
    let unreadable = || FlagsError::Refused(format!("error parsing CompactionRetention: invalid value \"{text}\""));
    match values.text("auto-compaction-mode") {
        "periodic" => {
            let hours = text.parse::<u32>().ok().map(|hours| Duration::from_secs(3_600) * hours);
            let retention = hours.or_else(|| duration::parse(text)).ok_or_else(unreadable)?;
            Ok((!retention.is_zero()).then_some(AutoCompaction::Periodic(retention)))
        }
        "revision" => {
            let kept = text.parse::<i64>().ok().filter(|kept| *kept >= 0).ok_or_else(unreadable)?;
            Ok((kept > 0).then_some(AutoCompaction::Revision(kept)))
        }
        other => Err(FlagsError::Refused(format!("unknown auto-compaction-mode \"{other}\""))),
    }
}

fn auth(values: &Values<'_>, store: &mut StoreConfig, notes: &mut Vec<String>) {
    store.auth_token = values.text("auth-token").to_owned();
    match u32::try_from(values.number("bcrypt-cost")) {
        Ok(cost) if (BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&cost) => store.bcrypt_cost = cost,
        // As etcd, which starts all the same.
        _ => notes.push(format!("--bcrypt-cost={} is not possible; {BCRYPT_COST} is used", values.text("bcrypt-cost"))),
    }
    if values.number("auth-token-ttl") > 0 {
        store.auth_token_ttl = Duration::from_secs(values.number("auth-token-ttl"));
    }
}

fn backup(values: &Values<'_>) -> Result<Option<RecorderOptions>, FlagsError> {
    let keep = values.size("backup-keep");
    if keep == 0 {
        return Err(FlagsError::Refused("--backup-keep must be at least 1".into()));
    }
    Ok(values.path("backup-dir").map(|dir| RecorderOptions { keep, ..RecorderOptions::new(dir) }))
}

fn tls_files(
    values: &Values<'_>,
    certificate: &str,
    key: &str,
    ca: &str,
    required: &str,
) -> Result<TlsFiles, FlagsError> {
    let identity = match (values.path(certificate), values.path(key)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (certificate, key) => {
            let shown = |path: Option<PathBuf>| path.unwrap_or_default().display().to_string();
            let (key, certificate) = (shown(key), shown(certificate));
            let text = format!("KeyFile and CertFile must both be present[key: {key}, cert: {certificate}]");
            return Err(FlagsError::Refused(text));
        }
    };
    let trusted_ca = values.path(ca);
    if values.switch(required) && identity.is_some() && trusted_ca.is_none() {
        return Err(FlagsError::Refused(format!("--{required} needs --{ca}")));
    }
    // etcd takes an authority for a demand, too.
    let certificate_required = values.switch(required) || trusted_ca.is_some();
    Ok(TlsFiles { identity, trusted_ca, certificate_required })
}

fn log(values: &Values<'_>) -> Result<LogSettings, FlagsError> {
    let level = match values.text("log-level") {
        "debug" => "debug",
        "info" => "info",
        "warn" => "warn",
        "error" | "dpanic" | "panic" | "fatal" => "error",
        other => return Err(FlagsError::Usage(format!("unrecognized level: \"{other}\""))),
    };
    let outputs = values.text("log-outputs").split(',').map(|output| output.trim().to_owned()).collect();
    Ok(LogSettings { level, outputs, json: values.text("log-format") == "json" })
}
