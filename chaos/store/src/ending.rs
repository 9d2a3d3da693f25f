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
    let mut from = Start::Beginning;
    for name in &names {
        let start_us = recorder.now_us();
        let events = log(cluster, name, last, &mut from).await?;
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

/// Where the logs begin, the same for all members.
enum Start {
    /// With the first revision.
    Beginning,
    /// Older ones are compacted: with the state at this one.
    Compacted(i64),
}

/// Every change to `last`, by a watch; what was compacted away is replaced by the state that was left.
async fn log(cluster: &Cluster, name: &str, last: i64, from: &mut Start) -> Outcome<Vec<Event>> {
    if matches!(from, Start::Beginning) {
        match changes(cluster, name, 1, last).await? {
            Read::All(events) => return Ok(events),
            Read::Compacted(revision) => *from = Start::Compacted(revision),
        }
    }
    let Start::Compacted(at) = *from else { return Ok(Vec::new()) };
    let request =
        pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), revision: at, ..Default::default() };
    let state = cluster.observer_of(name)?.range(request).await;
    let state = state.ok().ok_or_else(|| Failure::impossible(format!("the state of {name} at {at}")))?;
    let there = state.kvs.into_iter().map(|kv| {
        let put = keelstone_etcd_api::mvccpb::Event { kv: Some(kv), ..Default::default() };
        watch_event(&put)
    });
    let mut events: Vec<Event> = there.collect();
    events.sort();
    match changes(cluster, name, at + 1, last).await? {
        Read::All(rest) => events.extend(rest),
        Read::Compacted(_) => return Err(Failure::impossible(format!("the log of {name} is compacted meanwhile"))),
    }
    Ok(events)
}

enum Read {
    All(Vec<Event>),
    Compacted(i64),
}

async fn changes(cluster: &Cluster, name: &str, from: i64, last: i64) -> Outcome<Read> {
    let failed = |said: String| Failure::impossible(format!("the log of {name}: {said}"));
    let create = pb::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: from,
        ..Default::default()
    };
    let mut stream = cluster.observer_of(name)?.watch(create).await.map_err(failed)?;
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|e| e.revision < last) {
        let answer = tokio::time::timeout(HEAL_TIME_MAX, stream.message()).await;
        let answer = answer.map_err(|_| failed("no answer".into()))?.map_err(|e| failed(e.to_string()))?;
        let answer = answer.ok_or_else(|| failed("the watch ended".into()))?;
        if answer.canceled && answer.compact_revision > 0 {
            return Ok(Read::Compacted(answer.compact_revision));
        }
        if answer.canceled {
            return Err(failed(format!("the watch ended: {}", answer.cancel_reason)));
        }
        events.extend(answer.events.iter().map(watch_event));
    }
    // A lease may have ended since.
    events.retain(|e| e.revision <= last);
    Ok(Read::All(events))
}

async fn hash(cluster: &Cluster, name: &str, at: i64) -> Outcome<u32> {
    match cluster.observer_of(name)?.hash_kv(at).await {
        Reply::Ok(answer) => Ok(answer.hash),
        Reply::Failed(error) | Reply::Unknown(error) => {
            Err(Failure::impossible(format!("the hash of {name}: {error}")))
        }
    }
}
