//! Several API servers over one store.

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Request;
use keelstone_apiserver::{ApiServer, ApiServerConfig, ServiceCidr};
use keelstone_env::Env;
use keelstone_storage::testing::MemoryKv;
use serde_json::{json, Value};
use support::{admin, TestServer, TOKEN_KEY};

async fn masters(cidr: &str) -> Vec<TestServer> {
    let kv = MemoryKv::new();
    let mut masters = Vec::new();
    for (name, port) in [("m1", 6443), ("m2", 6443), ("m3", 7443)] {
        let mut config = ApiServerConfig::new(name, TOKEN_KEY);
        config.service_cidr = ServiceCidr::parse(cidr).unwrap();
        config.advertise_host = format!("10.0.0.{}", masters.len() + 1);
        config.advertise_port = port;
        let running = ApiServer::start(Env::os(), config, kv.clone()).await.unwrap();
        masters.push(TestServer { running, kv: kv.clone() });
    }
    for master in &masters {
        while !master.running.is_ready().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    masters
}

async fn ask(server: &TestServer, method: &str, url: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(url).body(body).unwrap();
    let (code, _, body) = server.send(admin(), request).await;
    (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test(start_paused = true)]
async fn masters_never_give_the_same_address_and_use_all_of_them() {
    // 14 addresses, one of which is the API's.
    let masters = masters("10.96.0.0/28").await;
    let path = "/api/v1/namespaces/default/services";
    let creations = (0..13).map(|i| {
        let master = &masters[i % masters.len()];
        let service = json!({"metadata": {"name": format!("s{i}")}, "spec": {"ports": [{"port": 80}]}});
        async move { ask(master, "POST", path, &service).await }
    });
    let answers = futures::future::join_all(creations).await;
    let mut given = BTreeSet::new();
    for (code, service) in answers {
        assert_eq!(code, 201, "{service}");
        given.insert(service["spec"]["clusterIP"].as_str().unwrap().to_owned());
    }
    assert_eq!(given.len(), 13);
    assert!(!given.contains("10.96.0.1"));
    let one_more = json!({"metadata": {"name": "more"}, "spec": {"ports": [{"port": 80}]}});
    let (code, status) = ask(&masters[1], "POST", path, &one_more).await;
    assert_eq!(code, 500, "{status}");
    assert!(status["message"].as_str().unwrap().contains("range is full"), "{status}");
    assert_eq!(ask(&masters[2], "DELETE", &format!("{path}/s0"), &Value::Null).await.0, 200);
    assert_eq!(ask(&masters[0], "POST", path, &one_more).await.0, 201);
}

#[tokio::test(start_paused = true)]
async fn who_loses_a_race_for_a_name_does_not_give_back_the_winners_address() {
    let masters = masters("10.96.0.0/16").await;
    let path = "/api/v1/namespaces/default/services";
    let wanted =
        |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}});
    let service = wanted("same");
    let answers = futures::future::join_all(masters.iter().map(|m| ask(m, "POST", path, &service))).await;
    let mut codes: Vec<u16> = answers.iter().map(|(code, _)| *code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [201, 409, 409]);
    assert_eq!(ask(&masters[0], "POST", path, &wanted("other")).await.0, 422);
    let kubernetes = json!({"metadata": {"name": "x"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}});
    assert_eq!(ask(&masters[0], "POST", path, &kubernetes).await.0, 422);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_master_leaves_the_kubernetes_service() {
    let mut masters = masters("10.96.0.0/16").await;
    let path = "/api/v1/namespaces/default/endpoints/kubernetes";
    let wait = std::time::Duration::from_secs(30);
    tokio::time::sleep(wait).await;
    let (_, endpoints) = ask(&masters[0], "GET", path, &Value::Null).await;
    assert_eq!(
        endpoints["subsets"],
        json!([
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "https", "port": 7443, "protocol": "TCP"}]},
        ])
    );
    masters.remove(2).stop().await;
    tokio::time::sleep(wait).await;
    let (_, endpoints) = ask(&masters[0], "GET", path, &Value::Null).await;
    assert_eq!(endpoints["subsets"].as_array().map(Vec::len), Some(1));
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (_, slices) = ask(&masters[1], "GET", slices, &Value::Null).await;
    assert_eq!(slices["items"].as_array().map(Vec::len), Some(1), "{slices}");
}
