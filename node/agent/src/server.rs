//! The agent's own server, on which the API servers read logs: `/containerLogs/<namespace>/<pod>/<container>`,
//! `/pods`, `/healthz`. Only an API server or an administrator may ask; they show a certificate.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{stream, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{combinators::UnsyncBoxBody, BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use keelstone_client::Object;
use keelstone_env::{BoxedIo, Identity, Listener, TlsAcceptor};
use tokio::sync::Semaphore;

use crate::{
    agent::Shared,
    logs::{self, LogWish},
    materials,
};

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Whose certificates may read logs: administrators, and API servers.
const READER_ORGANIZATION: &str = "system:masters";

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub async fn serve(shared: Arc<Shared>, listener: Box<dyn Listener>, tls: Option<Arc<dyn TlsAcceptor>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Err(error) => {
                tracing::info!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok((io, _)) => {
                let (shared, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    let _place = place;
                    connection(shared, io, tls).await;
                });
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, io: BoxedIo, tls: Option<Arc<dyn TlsAcceptor>>) {
    let (io, peer) = match tls {
        // Without TLS (the simulation's plain worlds) nobody can show who he is.
        None => (io, Some(Identity { common_name: String::new(), organizations: vec![READER_ORGANIZATION.into()] })),
        Some(tls) => match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(io)).await {
            Ok(Ok(session)) => (session.io, session.peer),
            _ => return,
        },
    };
    let service = service_fn(move |request| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move { Ok::<_, Infallible>(answer(&shared, peer.as_ref(), &request)) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let served = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(io), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let body = Full::new(Bytes::from(text.into())).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn answer(shared: &Arc<Shared>, peer: Option<&Identity>, request: &Request<Incoming>) -> Response<Body> {
    let path: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    if path == ["healthz"] {
        return text(StatusCode::OK, "ok");
    }
    if !peer.is_some_and(|p| p.organizations.iter().any(|o| o == READER_ORGANIZATION)) {
        return text(StatusCode::UNAUTHORIZED, "Unauthorized");
    }
    match (request.method(), path.as_slice()) {
        (&Method::GET, ["pods"]) => pods(shared),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            let query: BTreeMap<String, String> = query(request.uri().query().unwrap_or_default());
            container_logs(shared, namespace, pod, container, &query)
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// The pods that this agent knows of, as a PodList.
fn pods(shared: &Shared) -> Response<Body> {
    let items: Vec<_> = shared.pods().iter().map(|p| serde_json::to_value(&**p).unwrap_or_default()).collect();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items});
    text(StatusCode::OK, list.to_string())
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decode(value))).collect()
}

/// Percent-decoding, as in URLs.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = (byte == b'%').then(|| {
            let pair = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()
        });
        out.push(match decoded {
            Some(Some(byte)) => byte,
            _ if byte == b'+' => b' ',
            _ => byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn container_logs(
    shared: &Arc<Shared>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &BTreeMap<String, String>,
) -> Response<Body> {
    let flag = |name: &str| matches!(query.get(name).map(String::as_str), Some("true" | "1"));
    let Some(pod) = shared.pod_named(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod {namespace}/{pod} is not on this node"));
    };
    let sandboxes = shared.sandboxes_of(pod.uid());
    let mut runs: Vec<_> = sandboxes.iter().flat_map(|s| &s.containers).filter(|c| c.name == container).collect();
    runs.sort_by_key(|c| std::cmp::Reverse(c.attempt));
    let run = if flag("previous") {
        // While a restart is awaited, the run before is the newest one.
        let newest = runs.first().copied().filter(|c| !c.is_running());
        runs.into_iter().skip(1).find(|c| !c.is_running()).or(newest)
    } else {
        runs.into_iter().next()
    };
    let Some(run) = run else {
        let said = if flag("previous") {
            format!("previous terminated container \"{container}\" in pod \"{}\" not found", pod.name())
        } else {
            format!("container \"{container}\" in pod \"{}\" is waiting to start", pod.name())
        };
        return text(StatusCode::BAD_REQUEST, said);
    };
    let wish = LogWish {
        follow: flag("follow"),
        timestamps: flag("timestamps"),
        tail_lines: query.get("tailLines").and_then(|t| t.parse().ok()),
        limit_bytes: query.get("limitBytes").and_then(|t| t.parse().ok()),
        since: since(shared, query),
    };
    let path = materials::log_dir(&shared.config, &pod).join(materials::log_path(container, run.attempt));
    let (watched, uid, id) = (shared.clone(), pod.uid().to_owned(), run.id.clone());
    let ended = move || {
        let sandboxes = watched.sandboxes_of(&uid);
        !sandboxes.iter().flat_map(|s| &s.containers).any(|c| c.id == id && c.is_running())
    };
    match logs::stream(shared.env.clone(), &path, wish, ended) {
        Ok(lines) => {
            let frames = lines.map(|piece| piece.map(Frame::data));
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
        // Nothing has been written yet, or the runtime writes no logs.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Response::new(StreamBody::new(stream::empty()).boxed_unsync())
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the log cannot be read: {error}")),
    }
}

/// `sinceTime` as it is, `sinceSeconds` counted back from now.
fn since(shared: &Shared, query: &BTreeMap<String, String>) -> Option<String> {
    if let Some(time) = query.get("sinceTime") {
        return Some(time.clone());
    }
    let seconds: i64 = query.get("sinceSeconds")?.parse().ok()?;
    let at = shared.now_unix_s().saturating_sub(seconds);
    k8s_openapi::jiff::Timestamp::from_second(at).ok().map(|t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let parsed = query("follow=true&sinceTime=2026-01-01T00%3A00%3A00Z&x=a+b&broken");
        assert_eq!(parsed["sinceTime"], "2026-01-01T00:00:00Z");
        assert_eq!(parsed["x"], "a b");
        assert_eq!(decode("100%"), "100%");
    }
}
