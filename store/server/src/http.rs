//! Plain HTTP beside gRPC, as etcd serves it: health, readiness, version, metrics.

use std::sync::atomic::Ordering::Relaxed;

use http::{Method as HttpMethod, Response, StatusCode};
use keelstone_etcd_api::pb;

use crate::{
    auth::Credentials,
    constants::{CLUSTER_VERSION, ETCD_VERSION, STORAGE_VERSION},
    exposition::metrics,
    member::Member,
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
    let counter = if reason.is_empty() { &member.metrics.health_successes } else { &member.metrics.health_failures };
    counter.fetch_add(1, Relaxed);
    let body = serde_json::json!({"health": reason.is_empty().to_string(), "reason": reason});
    reply(status, JSON, body.to_string())
}

async fn read(member: &Member, serializable: bool) -> Result<(), String> {
    let request = pb::RangeRequest { key: "health".into(), limit: 1, serializable, ..Default::default() };
    member.range(request, &Credentials::INTERNAL).await.map(drop).map_err(|error| error.api().to_string())
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
            let concerns_us = |alarm: &pb::AlarmMember| [0, member.member_id].contains(&alarm.member_id);
            let is_corrupt = |alarm: &pb::AlarmMember| alarm.alarm() == pb::AlarmType::Corrupt && concerns_us(alarm);
            let corrupt = member.mvcc.alarms().iter().any(is_corrupt);
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
