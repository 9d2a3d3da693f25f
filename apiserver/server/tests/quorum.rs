//! Without a quorum: what is answered from memory, and that nothing hangs.

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use support::{admin, user, TestServer};
use tokio::time::Instant;

/// Every answer is there within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

async fn ask(server: &TestServer, who: &str, method: &str, url: &str, body: &str) -> (u16, Value) {
    let who = if who == "admin" { admin() } else { user(who, "") };
    let request = Request::builder().method(method).uri(url).body(Bytes::from(body.to_owned())).unwrap();
    let started = Instant::now();
    let (code, _, body) = server.send(who, request).await;
    assert!(started.elapsed() < ANSWER_WITHIN, "{method} {url} took {:?}", started.elapsed());
    (code, serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into())))
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_memory_answers_and_nothing_hangs() {
    let server = TestServer::start().await;
    let account = r#"{"metadata": {"name": "robot"}}"#;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(ask(&server, "admin", "POST", accounts, account).await.0, 201);
    let (_, answer) = ask(&server, "admin", "POST", &format!("{accounts}/robot/token"), "{}").await;
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    server.kv.set_down(true);

    for url in ["/api", "/apis", "/apis/apps/v1", "/version", "/livez", "/openapi/v3"] {
        assert_eq!(ask(&server, "alice", "GET", url, "").await.0, 200, "{url}");
    }
    let namespaces = "/api/v1/namespaces?resourceVersion=0";
    let (code, list) = ask(&server, "admin", "GET", namespaces, "").await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(4)));
    assert_eq!(ask(&server, "alice", "GET", namespaces, "").await.0, 403);
    let review = serde_json::json!({"spec": {"token": token}}).to_string();
    let (_, answer) = ask(&server, "admin", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    assert_eq!(answer["status"]["authenticated"], true);

    assert_eq!(ask(&server, "admin", "GET", "/readyz", "").await.0, 500);
    let pod = r#"{"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}"#;
    let calls = [
        ("GET", "/api/v1/namespaces", ""),
        ("GET", "/api/v1/namespaces/default", ""),
        ("POST", "/api/v1/namespaces/default/configmaps", account),
        ("POST", "/api/v1/namespaces/default/pods", pod),
        (
            "POST",
            "/api/v1/namespaces/default/services",
            r#"{"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}}"#,
        ),
        ("DELETE", "/api/v1/namespaces/default/serviceaccounts/robot", ""),
        ("POST", "/api/v1/namespaces/nowhere/configmaps", account),
    ];
    for (method, url, body) in calls {
        let (code, status) = ask(&server, "admin", method, url, body).await;
        assert!(code == 503 || code == 504, "{method} {url}: {code} {status}");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains("quorum"), "{method} {url}: {message}");
    }

    server.kv.set_down(false);
    assert_eq!(ask(&server, "admin", "GET", "/api/v1/namespaces", "").await.0, 200);
    server.stop().await;
}
