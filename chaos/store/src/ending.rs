//! What is read of every member at the end: the log of all changes, and the hash of its state.

use std::time::Duration;

use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_checkers::Event;
use keelstone_etcd_api::pb;
use serde::Serialize;
use serde_json::json;

use crate::{
    cluster::Cluster,
    constants::HEAL_TIME_MAX,
    etcd_client::{put, revision, Reply},
    record::{Class, Line, Recorder},
    workloads::watch_event,
};

/// The source of these lines.
pub const STORE: &str = "store";
/// The last key that is written: every log ends with it.
pub const LAST: &str = "zz-last";
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Records the log and the hash of each member.
///
/// # Errors
/// [`Failure::Impossible`]: a member does not tell.
pub async fn record(cluster: &Cluster, recorder: &Recorder) -> Outcome<()> {
    let names = cluster.names();
    let last = marker(cluster, &names).await?;
    for name in &names {
        let start_us = recorder.now_us();
        let events = log(cluster, name, last).await?;
        add(recorder, name, "log", start_us, &events);
        let start_us = recorder.now_us();
        let hash = hash(cluster, name, last).await?;
        add(recorder, name, "hash", start_us, &json!({"revision": last, "hash": hash}));
    }
    Ok(())
}

fn add(recorder: &Recorder, host: &str, kind: &str, start_us: u64, what: &impl Serialize) {
    recorder.add(Line {
        source: STORE.into(),
        client: 0,
        host: host.to_owned(),
        start_us,
        end_us: recorder.now_us(),
        kind: kind.into(),
        class: Class::Info,
        writes: false,
        what: serde_json::to_value(what).unwrap_or_default(),
    });
}

async fn marker(cluster: &Cluster, names: &[String]) -> Outcome<i64> {
    let mut said = String::new();
    for i in 0..TRIES {
        match cluster.observer_of(&names[i as usize % names.len()])?.put(put(LAST, i.to_string())).await {
            Reply::Ok(answer) => return Ok(revision(&answer.header)),
            Reply::Failed(error) | Reply::Unknown(error) => said = error,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Failure::impossible(format!("the last write: {said}")))
}

/// Every change from the first revision to `last`, by a watch.
async fn log(cluster: &Cluster, name: &str, last: i64) -> Outcome<Vec<Event>> {
    let failed = |said: String| Failure::impossible(format!("the log of {name}: {said}"));
    let create = pb::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: 1,
        ..Default::default()
    };
    let mut stream = cluster.observer_of(name)?.watch(create).await.map_err(failed)?;
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|e| e.revision < last) {
        let answer = tokio::time::timeout(HEAL_TIME_MAX, stream.message()).await;
        let answer = answer.map_err(|_| failed("no answer".into()))?.map_err(|e| failed(e.to_string()))?;
        let answer = answer.filter(|a| !a.canceled).ok_or_else(|| failed("the watch ended".into()))?;
        events.extend(answer.events.iter().map(watch_event));
    }
    // A lease may have ended since.
    events.retain(|e| e.revision <= last);
    Ok(events)
}

async fn hash(cluster: &Cluster, name: &str, at: i64) -> Outcome<u32> {
    match cluster.observer_of(name)?.hash_kv(at).await {
        Reply::Ok(answer) => Ok(answer.hash),
        Reply::Failed(error) | Reply::Unknown(error) => {
            Err(Failure::impossible(format!("the hash of {name}: {error}")))
        }
    }
}
