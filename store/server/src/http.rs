//! Plain HTTP beside gRPC, as etcd serves it: health, readiness, version, metrics.

use std::sync::atomic::Ordering::Relaxed;

use http::{Method as HttpMethod, Response, StatusCode};
use keelstone_etcd_api::pb;

use crate::{
    constants::{CLUSTER_VERSION, ETCD_VERSION, STORAGE_VERSION},
    member::Member,
    method::Method,
    metrics::{family, sample},
};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The query's value of `name`, if it is there.
fn query<'a>(uri: &'a http::Uri, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// Answers one request without a body.
pub(crate) async fn answer(member: &Member, method: &HttpMethod, uri: &http::Uri) -> Response<String> {
    if !matches!(*method, HttpMethod::GET | HttpMethod::HEAD) {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n".into());
    }
    let path = uri.path().trim_end_matches('/');
    let (root, check) = match path.get(1..).and_then(|rest| rest.split_once('/')) {
        Some((root, check)) => (root, Some(check)),
        None => (path.trim_start_matches('/'), None),
    };
    match (root, check) {
        ("health", None) => health(member, uri).await,
        ("livez", check) => probe(member, "livez", &["serializable_read"], check, uri).await,
        ("readyz", check) => {
            let checks = ["data_corruption", "serializable_read", "linearizable_read", "non_learner"];
            probe(member, "readyz", &checks, check, uri).await
        }
        ("version", None) => {
            let version = serde_json::json!({
                "etcdserver": ETCD_VERSION, "etcdcluster": CLUSTER_VERSION, "storage": STORAGE_VERSION,
            });
            reply(StatusCode::OK, JSON, version.to_string())
        }
        ("metrics", None) => reply(StatusCode::OK, METRICS, metrics(member)),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".into()),
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    response
}

/// etcd's oldest health answer: one read, alarms, and whether there is a leader.
async fn health(member: &Member, uri: &http::Uri) -> Response<String> {
    let serializable = query(uri, "serializable").any(|value| value == "true");
    let excluded: Vec<&str> = query(uri, "exclude").collect();
    let alarm = member.mvcc.alarms().into_iter().find(|alarm| !excluded.contains(&alarm.alarm().as_str_name()));
    let reason = if let Some(alarm) = alarm {
        format!("ALARM {}", alarm.alarm().as_str_name())
    } else if !serializable && member.status().leader.is_none() {
        "RAFT NO LEADER".to_owned()
    } else {
        match read(member, serializable).await {
            Ok(()) => String::new(),
            Err(error) => format!("RANGE ERROR:{error}"),
        }
    };
    let status = if reason.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({"health": reason.is_empty().to_string(), "reason": reason});
    reply(status, JSON, body.to_string())
}

async fn read(member: &Member, serializable: bool) -> Result<(), String> {
    let request = pb::RangeRequest { key: "health".into(), limit: 1, serializable, ..Default::default() };
    member.range(request).await.map(drop).map_err(|error| error.api().to_string())
}

/// A Kubernetes-style probe: all checks but the excluded ones, or the one in the path.
async fn probe(member: &Member, root: &str, checks: &[&str], only: Option<&str>, uri: &http::Uri) -> Response<String> {
    if only.is_some_and(|only| !checks.contains(&only)) {
        return reply(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".into());
    }
    let excluded: Vec<&str> = query(uri, "exclude").collect();
    let (mut lines, mut failed) = (String::new(), false);
    for check in checks.iter().filter(|check| only.is_none_or(|only| only == **check)) {
        if excluded.contains(check) {
            lines.push_str(&format!("[+]{check} excluded: ok\n"));
            continue;
        }
        match run_check(member, check).await {
            Ok(()) => lines.push_str(&format!("[+]{check} ok\n")),
            Err(reason) => {
                failed = true;
                lines.push_str(&format!("[-]{check} failed: {reason}\n"));
            }
        }
    }
    match failed {
        true => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{lines}{root} check failed\n")),
        false if query(uri, "verbose").next().is_some() => reply(StatusCode::OK, TEXT, format!("{lines}ok\n")),
        false => reply(StatusCode::OK, TEXT, "ok\n".into()),
    }
}

async fn run_check(member: &Member, check: &str) -> Result<(), String> {
    match check {
        "data_corruption" => {
            let corrupt = member.mvcc.alarms().iter().any(|alarm| alarm.alarm() == pb::AlarmType::Corrupt);
            match member.status().failed {
                Some(reason) => Err(reason),
                None if corrupt => Err("alarm activated: CORRUPT".to_owned()),
                None => Ok(()),
            }
        }
        "serializable_read" => read(member, true).await,
        "linearizable_read" => read(member, false).await,
        "non_learner" if member.status().is_learner => Err("not supported for learner".to_owned()),
        _ => Ok(()),
    }
}

/// All metrics in Prometheus' text form, under the names that etcd's dashboards use.
fn metrics(member: &Member) -> String {
    let mut text = String::with_capacity(16 << 10);
    let status = member.status();
    let (total, in_use) = member.mvcc.size_bytes();
    let own = &member.metrics;
    let mut one = |name: &str, kind: &str, help: &str, value: i128| {
        family(&mut text, name, kind, help);
        sample(&mut text, name, "", value);
    };
    one("etcd_server_has_leader", "gauge", "Whether a leader is known.", status.leader.is_some().into());
    one("etcd_server_is_leader", "gauge", "Whether this member leads.", status.is_leader().into());
    one("etcd_server_is_learner", "gauge", "Whether this member is a learner.", status.is_learner.into());
    let changes = own.leader_changes_seen.load(Relaxed).into();
    one("etcd_server_leader_changes_seen_total", "counter", "Leader changes seen.", changes);
    one("etcd_server_proposals_committed_total", "gauge", "Committed proposals.", status.committed.into());
    one("etcd_server_proposals_applied_total", "gauge", "Applied proposals.", status.applied.into());
    let (pending, failed) = (own.proposals_pending.load(Relaxed), own.proposals_failed.load(Relaxed));
    one("etcd_server_proposals_pending", "gauge", "Proposals waiting for an answer.", pending.into());
    one("etcd_server_proposals_failed_total", "counter", "Proposals without an answer.", failed.into());
    let reads_failed = own.read_indexes_failed.load(Relaxed).into();
    one("etcd_server_read_indexes_failed_total", "counter", "Linearizable reads that failed.", reads_failed);
    let quota = member.limits.quota_bytes.into();
    one("etcd_server_quota_backend_bytes", "gauge", "Quota of the store in bytes.", quota);
    one("etcd_mvcc_db_total_size_in_bytes", "gauge", "Size of the store on disk.", total.into());
    one("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "Size of the live data.", in_use.into());
    let (revision, compacted) = (member.mvcc.revision(), member.mvcc.compacted_revision());
    one("etcd_debugging_mvcc_current_revision", "gauge", "The current revision.", revision.into());
    one("etcd_debugging_mvcc_compact_revision", "gauge", "The last compaction's revision.", compacted.into());
    one("etcd_debugging_mvcc_watcher_total", "gauge", "Watchers.", own.watchers.load(Relaxed).into());
    one("etcd_debugging_mvcc_watch_stream_total", "gauge", "Watch streams.", own.watch_streams.load(Relaxed).into());
    let events = own.watch_events_sent.load(Relaxed).into();
    one("etcd_debugging_mvcc_events_total", "counter", "Events sent to watchers.", events);
    for (name, method) in [("put", Method::Put), ("delete", Method::DeleteRange), ("txn", Method::Txn)] {
        let name = format!("etcd_mvcc_{name}_total");
        one(&name, "counter", "Calls seen by this member.", own.started_total(method).into());
    }
    let ranges = own.started_total(Method::Range).into();
    one("etcd_mvcc_range_total", "counter", "Calls seen by this member.", ranges);
    if let Some(backup) = member.backup_progress() {
        let unix_s = backup.unix_ms / 1000;
        let behind = revision.saturating_sub(backup.revision).max(0);
        one(
            "keelstone_backup_revision",
            "gauge",
            "Up to which revision the backup is complete.",
            backup.revision.into(),
        );
        one(
            "keelstone_backup_behind_revisions",
            "gauge",
            "Revisions that the backup does not hold yet.",
            behind.into(),
        );
        one("keelstone_backup_complete_unix_seconds", "gauge", "When the backup was complete last.", unix_s.into());
        one("keelstone_backup_failing", "gauge", "Whether the backup cannot go on.", backup.error.is_some().into());
    }
    family(&mut text, "etcd_server_version", "gauge", "Which version is running.");
    sample(&mut text, "etcd_server_version", &format!("server_version=\"{ETCD_VERSION}\""), 1);
    family(&mut text, "etcd_server_id", "gauge", "Member id in hexadecimal.");
    sample(&mut text, "etcd_server_id", &format!("server_id=\"{:x}\"", member.member_id), 1);
    own.write_methods(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_by_name() {
        let uri: http::Uri = "/health?serializable=true&exclude=NOSPACE&exclude=CORRUPT&verbose".parse().unwrap();
        assert_eq!(query(&uri, "exclude").collect::<Vec<_>>(), ["NOSPACE", "CORRUPT"]);
        assert_eq!(query(&uri, "verbose").collect::<Vec<_>>(), [""]);
        assert_eq!(query(&uri, "absent").count(), 0);
    }
}
