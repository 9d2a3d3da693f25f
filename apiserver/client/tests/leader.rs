//! Leader election and events against an API in memory, on a virtual clock.

mod fake;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fake::{FakeApi, Fault};
use k8s_openapi::api::core::v1::ConfigMap;
use keelstone_client::{CancellationToken, Client, EventRecorder, LeaderConfig, LeaderElector};
use serde_json::json;
use tokio::time::{sleep, Instant};

type Log = Arc<Mutex<Vec<(String, Instant)>>>;

/// A candidate that notes when it begins and ends to lead.
fn candidate(client: Client, name: &'static str, log: &Log, stop: &CancellationToken) {
    let (log, stop) = (log.clone(), stop.clone());
    struct Ends(Log, &'static str);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.lock().unwrap().push((format!("{} ends", self.1), Instant::now()));
        }
    }
    tokio::spawn(async move {
        let mut elector = LeaderElector::new(&client, LeaderConfig::new("kube-system", "test", name));
        elector
            .run(&stop, |leadership| {
                log.lock().unwrap().push((format!("{name} leads {}", leadership.epoch()), Instant::now()));
                let ends = Ends(log.clone(), name);
                async move {
                    let _ends = ends;
                    std::future::pending::<()>().await;
                }
            })
            .await;
    });
}

fn texts(log: &Log) -> Vec<String> {
    log.lock().unwrap().iter().map(|(text, _)| text.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cut_off_leader_stops_before_the_next_begins() {
    let api = FakeApi::new();
    let (log, stop) = (Log::default(), CancellationToken::new());
    // The first candidate reaches the API through a link that will be cut.
    let link = Link { api: api.clone(), cut: Arc::default() };
    candidate(Client::new(keelstone_env::Env::os(), link.clone()), "one", &log, &stop);
    sleep(Duration::from_secs(5)).await;
    candidate(api.client(), "two", &log, &stop);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(texts(&log), ["one leads 0"]);
    *link.cut.lock().unwrap() = true;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(texts(&log), ["one leads 0", "one ends", "two leads 1"]);
    let log = log.lock().unwrap();
    let gap = log[2].1 - log[1].1;
    assert!(gap >= Duration::from_secs(3), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_term_of_its_own_is_waited_out_and_the_next_has_another_epoch() {
    let api = FakeApi::new();
    let (log, stop) = (Log::default(), CancellationToken::new());
    candidate(api.client(), "one", &log, &stop);
    sleep(Duration::from_secs(30)).await;
    api.fail_all(Some(Fault::Unavailable));
    while log.lock().unwrap().len() < 2 {
        sleep(Duration::from_millis(100)).await;
    }
    api.fail_all(None);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(texts(&log), ["one leads 0", "one ends", "one leads 1"]);
    let log = log.lock().unwrap();
    // Another candidate would have had to wait as long: the lease's 15 s less the 10 s of the renew deadline.
    let gap = log[2].1 - log[1].1;
    assert!(gap >= Duration::from_millis(4_900) && gap < Duration::from_millis(9_500), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn a_term_whose_beginning_was_not_answered_is_taken_up_at_once() {
    let api = FakeApi::new();
    let (log, stop) = (Log::default(), CancellationToken::new());
    api.fail_next(http::Method::POST, Fault::LoseAnswer);
    candidate(api.client(), "one", &log, &stop);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(texts(&log), ["one leads 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_hands_over_at_once() {
    let api = FakeApi::new();
    let log = Log::default();
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    candidate(api.client(), "one", &log, &first);
    sleep(Duration::from_secs(1)).await;
    candidate(api.client(), "two", &log, &second);
    sleep(Duration::from_secs(30)).await;
    first.cancel();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(texts(&log), ["one leads 0", "one ends", "two leads 1"]);
}

#[tokio::test(start_paused = true)]
async fn short_outages_do_not_end_leadership_and_lost_leadership_refuses_writes() {
    let api = FakeApi::new();
    let mut elector = LeaderElector::new(&api.client(), LeaderConfig::new("kube-system", "test", "one"));
    let leadership = elector.acquire().await;
    let guarded = api.client().guarded(Arc::new(leadership.clone()));
    let config: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "n"}})).unwrap();
    let holding = leadership.clone();
    tokio::spawn(async move { elector.hold(&holding).await });
    api.fail_all(Some(Fault::Unavailable));
    sleep(Duration::from_secs(6)).await;
    api.fail_all(None);
    sleep(Duration::from_secs(60)).await;
    assert!(leadership.is_leader());
    guarded.resource().create(&config).await.unwrap();
    api.fail_all(Some(Fault::Unavailable));
    leadership.ended().cancelled().await;
    api.fail_all(None);
    assert!(guarded.resource::<ConfigMap>().update(&config).await.unwrap_err().is_not_leader());
    guarded.unguarded().resource::<ConfigMap>().update(&config).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn repeated_events_are_counted() {
    let api = FakeApi::new();
    let client = api.client();
    let recorder = EventRecorder::new(&client, "tester", "node-1");
    let config: ConfigMap =
        serde_json::from_value(api.put("configmaps", json!({"metadata": {"name": "a", "namespace": "n"}}))).unwrap();
    api.fail_next(http::Method::POST, Fault::Unavailable);
    for _ in 0..3 {
        recorder.warning(&config, "Broken", "it does not work");
    }
    recorder.normal(&config, "Fine", "x".repeat(5_000));
    sleep(Duration::from_secs(10)).await;
    let mut events = api.all("events");
    events.sort_by_key(|e| e["reason"].as_str().unwrap().to_owned());
    assert_eq!(events.len(), 2);
    assert_eq!((events[0]["count"].as_i64(), events[0]["type"].as_str()), (Some(3), Some("Warning")));
    assert_eq!(events[0]["involvedObject"]["kind"], "ConfigMap");
    assert_eq!(events[0]["source"], json!({"component": "tester", "host": "node-1"}));
    assert_eq!(events[1]["message"].as_str().unwrap().len(), 1_024);
}

#[derive(Clone)]
struct Link {
    api: FakeApi,
    cut: Arc<Mutex<bool>>,
}

#[async_trait::async_trait]
impl keelstone_client::Transport for Link {
    async fn send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<keelstone_client::Body>, keelstone_client::TransportError> {
        if *self.cut.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        self.api.send(request).await
    }
}
