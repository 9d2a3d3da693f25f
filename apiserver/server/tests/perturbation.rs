//! Plans of perturbation: what those whom a plan names get to see, what others do not notice, and which writes
//! count as made on stale knowledge. Time stands still except when everything waits.

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::Request;
use http_body_util::{BodyExt, BodyStream, Full};
use keelstone_access::User;
use keelstone_apiserver::perturb::{Plan, WriteRecord};
use serde_json::{json, Value};
use support::{admin, user, TestServer};
use tokio::time::{sleep, timeout, Instant};
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// The one whom the plans name; may do everything.
fn operator() -> User {
    user("operator", "system:masters")
}

async fn server(rules: &str) -> TestServer {
    let plan = Plan::parse(&format!("{{seed: 1, observe: [operator], rules: [{rules}]}}")).unwrap();
    TestServer::start_with(|config| config.perturbation = Some(plan)).await
}

async fn call(server: &TestServer, who: User, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap();
    let (code, _, answer) = server.send(who, request).await;
    (code, serde_json::from_slice(&answer).unwrap_or_default())
}

async fn get(server: &TestServer, who: User, path: &str) -> (u16, Value) {
    call(server, who, "GET", path, Value::Null).await
}

async fn create(server: &TestServer, path: &str, name: &str) -> i64 {
    let (code, object) = call(server, admin(), "POST", path, json!({"metadata": {"name": name}})).await;
    assert_eq!(code, 201, "{object}");
    version(&object)
}

async fn patch(server: &TestServer, who: User, path: &str, text: &str) -> i64 {
    let (code, object) = call(server, who, "PATCH", path, json!({"data": {"text": text}})).await;
    assert_eq!(code, 200, "{object}");
    version(&object)
}

fn version(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    let all = list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap());
    all.filter(|name| !name.starts_with("kube-root-ca")).collect()
}

/// A watch that stays open.
struct Watching(std::pin::Pin<Box<dyn futures::Stream<Item = Value> + Send>>);

impl Watching {
    async fn open(server: &TestServer, who: User, path: &str) -> Result<Self, u16> {
        let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
        let response = server.running.local_service(who).oneshot(request).await.unwrap();
        if response.status() != 200 {
            return Err(response.status().as_u16());
        }
        let frames = BodyStream::new(response.into_body().map_err(|error| error.to_string()));
        Ok(Self(Box::pin(frames.map(|frame| serde_json::from_slice(&frame.unwrap().into_data().unwrap()).unwrap()))))
    }

    /// The next event and when it came; `None` once the watch has ended.
    async fn next(&mut self) -> Option<(String, Instant)> {
        let event = timeout(Duration::from_secs(100), self.0.next()).await.expect("the watch goes on or ends")?;
        Some((event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned(), Instant::now()))
    }

    async fn next_name(&mut self) -> Option<String> {
        self.next().await.map(|(name, _)| name)
    }
}

/// The last recorded write, once it is judged.
async fn last_write(server: &TestServer, revision: i64) -> WriteRecord {
    loop {
        let report = server.running.perturbation().unwrap();
        if let Some(record) = report.records.iter().find(|record| record.revision == revision) {
            return record.clone();
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_strike_those_who_are_named_and_nobody_else() {
    let server = server("{users: [operator], verbs: [get], effect: throttle}, {users: [operator], verbs: [delete], effect: fail}, {users: [operator], effect: gone}").await;
    let at = create(&server, MAPS, "a").await;
    let path = format!("{MAPS}/a");
    assert_eq!(get(&server, operator(), &path).await.0, 429);
    assert_eq!(get(&server, admin(), &path).await.0, 200);
    assert_eq!(call(&server, operator(), "DELETE", &path, Value::Null).await.0, 500);
    assert_eq!(get(&server, admin(), &path).await.0, 200, "nothing was done");
    let from = format!("{MAPS}?watch=1&resourceVersion={at}");
    assert_eq!(Watching::open(&server, operator(), &from).await.err(), Some(410));
    assert!(Watching::open(&server, operator(), &format!("{MAPS}?watch=1&resourceVersion=0")).await.is_ok());
    assert!(Watching::open(&server, admin(), &from).await.is_ok());
    create(&server, MAPS, "b").await;
    let (_, page) = get(&server, operator(), &format!("{MAPS}?limit=1")).await;
    let next = page["metadata"]["continue"].as_str().unwrap();
    assert_eq!(get(&server, operator(), &format!("{MAPS}?limit=1&continue={next}")).await.0, 410);
    assert_eq!(get(&server, admin(), &format!("{MAPS}?limit=1&continue={next}")).await.0, 200);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_can_be_done_and_its_answer_lost_or_late() {
    let server =
        server("{users: [operator], effect: fail-after-commit}, {users: [operator], effect: delay, ms: [5000, 6000]}")
            .await;
    let begun = Instant::now();
    let (code, said) = call(&server, operator(), "POST", MAPS, json!({"metadata": {"name": "a"}})).await;
    assert_eq!((code, said["reason"].as_str()), (504, Some("Timeout")));
    assert!((5..=7).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(get(&server, admin(), &format!("{MAPS}/a")).await.0, 200);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_reads_that_may_be_old_are_old() {
    let server = server("{users: [operator], effect: stale, ms: [10000, 10000]}").await;
    create(&server, MAPS, "a").await;
    sleep(Duration::from_secs(15)).await;
    create(&server, MAPS, "b").await;
    sleep(Duration::from_secs(5)).await;
    let any = format!("{MAPS}?resourceVersion=0");
    assert_eq!(names(&get(&server, operator(), &any).await.1), ["a"]);
    assert_eq!(names(&get(&server, operator(), MAPS).await.1), ["a", "b"]);
    assert_eq!(names(&get(&server, admin(), &any).await.1), ["a", "b"]);
    assert_eq!(get(&server, operator(), &format!("{MAPS}/b?resourceVersion=0")).await.0, 404);
    assert_eq!(get(&server, operator(), &format!("{MAPS}/a?resourceVersion=0")).await.0, 200);
    assert_eq!(get(&server, operator(), &format!("{MAPS}/b")).await.0, 200);
    // A watch begins with the old state and misses nothing.
    let path = format!("{MAPS}?watch=1&resourceVersion=0&fieldSelector=metadata.name!=kube-root-ca.crt");
    let mut watch = Watching::open(&server, operator(), &path).await.unwrap();
    assert_eq!((watch.next_name().await.unwrap(), watch.next_name().await.unwrap()), ("a".into(), "b".into()));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_kind_held_back_changes_the_order_between_kinds_and_not_within() {
    let server = server("{users: [operator], resources: [configmaps], effect: hold, ms: [3000, 3000]}").await;
    let from = create(&server, MAPS, "first").await;
    let open = |path: &str| format!("{path}?watch=1&resourceVersion={from}");
    let mut maps = Watching::open(&server, operator(), &open(MAPS)).await.unwrap();
    let mut secrets = Watching::open(&server, operator(), &open(SECRETS)).await.unwrap();
    let begun = Instant::now();
    let make = async {
        for name in ["a", "b", "c"] {
            create(&server, MAPS, name).await;
        }
        create(&server, SECRETS, "late").await;
    };
    let see = async {
        let seen: Vec<_> = [maps.next().await, maps.next().await, maps.next().await].into_iter().flatten().collect();
        assert_eq!(seen.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        (seen[0].1, seen[2].1)
    };
    let ((), (first, last), secret) = tokio::join!(make, see, secrets.next());
    let (name, secret) = secret.unwrap();
    assert!(name == "late" && secret < first, "the last write is seen first");
    assert!(first.duration_since(begun) >= Duration::from_secs(3));
    assert!(last.duration_since(first) < Duration::from_secs(1), "many are not later than one");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_cut_has_to_list_again() {
    let server = server(
        "{users: [operator], effect: drop, ms: [2000, 2000]}, {users: [operator], effect: slow, ms: [500, 500]}",
    )
    .await;
    let from = create(&server, MAPS, "a").await;
    create(&server, MAPS, "b").await;
    let path = format!("{MAPS}?watch=1&resourceVersion={from}");
    let begun = Instant::now();
    let mut watch = Watching::open(&server, operator(), &path).await.unwrap();
    let (name, at) = watch.next().await.unwrap();
    assert_eq!((name.as_str(), at.duration_since(begun).as_millis() / 100), ("b", 5));
    assert_eq!(watch.next().await, None);
    assert_eq!(begun.elapsed().as_millis() / 100, 20);
    assert_eq!(Watching::open(&server, operator(), &path).await.err(), Some(410));
    assert!(Watching::open(&server, operator(), &path).await.is_ok(), "once");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn writes_on_stale_knowledge_are_told_from_others() {
    let server = server("{users: [operator], resources: [configmaps], effect: hold, ms: [20000, 20000]}").await;
    let from = create(&server, MAPS, "a").await;
    create(&server, SECRETS, "s").await;
    let path = format!("{MAPS}?watch=1&resourceVersion={from}");
    let mut watch = Watching::open(&server, operator(), &path).await.unwrap();

    // Nothing happened that it was not sent.
    let own = patch(&server, operator(), &format!("{MAPS}/a"), "1").await;
    let record = last_write(&server, own).await;
    assert!(!record.is_stale(), "{record:?}");
    assert_eq!(
        record.frontiers.iter().map(|(view, at)| (view.resource.as_str(), *at)).collect::<Vec<_>>(),
        [("configmaps", from)]
    );

    // Its own write is known to it; somebody else's is not, until it is sent or read.
    let other = patch(&server, admin(), &format!("{MAPS}/a"), "2").await;
    patch(&server, admin(), &format!("{SECRETS}/s"), "Mg==").await;
    let stale = patch(&server, operator(), &format!("{MAPS}/a"), "3").await;
    let record = last_write(&server, stale).await;
    assert_eq!((record.missed_count, record.missed[0].revision, record.own_object_missed), (1, other, true));
    let elsewhere = patch(&server, operator(), &format!("{SECRETS}/s"), "Mw==").await;
    let record = last_write(&server, elsewhere).await;
    assert!(!record.is_stale(), "its own last write covers the object: {record:?}");

    let created = create(&server, MAPS, "b").await;
    let stale = patch(&server, operator(), &format!("{MAPS}/a"), "4").await;
    let record = last_write(&server, stale).await;
    assert_eq!((record.missed_count, record.missed[0].revision, record.own_object_missed), (1, created, false));
    assert_eq!(get(&server, operator(), &format!("{MAPS}/b")).await.0, 200);
    let read = patch(&server, operator(), &format!("{MAPS}/a"), "5").await;
    assert!(!last_write(&server, read).await.is_stale(), "it was read");

    for _ in 0..6 {
        watch.next().await.unwrap();
    }
    let caught_up = patch(&server, operator(), &format!("{MAPS}/a"), "6").await;
    assert!(!last_write(&server, caught_up).await.is_stale());

    let report = server.running.perturbation().unwrap();
    assert_eq!((report.writes, report.stale_writes), (6, 2));
    let (code, shown) = get(&server, admin(), "/debug/perturbation").await;
    assert_eq!((code, shown["stale_writes"].as_u64()), (200, Some(2)));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_a_write_is_delayed_came_too_late_for_it() {
    let server = server("{users: [operator], verbs: [patch], effect: delay, ms: [5000, 5000]}").await;
    let from = create(&server, MAPS, "a").await;
    let path = format!("{MAPS}?watch=1&resourceVersion={from}");
    let mut watch = Watching::open(&server, operator(), &path).await.unwrap();
    let others = async {
        sleep(Duration::from_secs(1)).await;
        let created = create(&server, MAPS, "b").await;
        assert_eq!(watch.next_name().await.unwrap(), "b", "sent long before the write is done");
        created
    };
    let object = format!("{MAPS}/a");
    let (written, created) = tokio::join!(patch(&server, operator(), &object, "1"), others);
    let record = last_write(&server, written).await;
    assert_eq!((record.missed_count, record.missed[0].revision), (1, created));
    server.stop().await;
}
