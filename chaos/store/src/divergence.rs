//! A named scenario: a transaction with a put and a range at a revision that does not exist yet. Its caller is told that
//! it failed, so nothing of it may be anywhere. (In etcd up to 3.5 the other members apply the put: they skip the check
//! of ranges, whose answers nobody waits for.)

use std::{collections::BTreeMap, time::Duration};

use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_etcd_api::pb;

use crate::{
    cluster::Cluster,
    constants::READY_TIME_MAX,
    etcd_client::{get, op, prefix, put, text, Reply},
};

/// So that every member has applied what was committed.
const REST: Duration = Duration::from_secs(2);
const FUTURE_REVISION: i64 = 1 << 40;

/// What was found, told for people.
///
/// # Errors
/// [`Failure::Broken`]: a refused transaction left something, or members differ.
pub async fn run(cluster: &Cluster) -> Outcome<String> {
    cluster.form()?;
    let ready = cluster.wait_ready(READY_TIME_MAX).await;
    ready.map_err(|f| Failure::impossible(format!("the cluster does not start: {}", f.text())))?;
    let mut told = Vec::new();
    for name in cluster.names() {
        let request = pb::TxnRequest {
            success: vec![
                op::put(put(&format!("divergence/{name}"), "x")),
                op::range(pb::RangeRequest { revision: FUTURE_REVISION, ..get("any") }),
            ],
            ..Default::default()
        };
        match cluster.observer_of(&name)?.txn(request).await {
            Reply::Failed(error) => told.push(format!("{name} refused: {error}")),
            other => return Err(Failure::impossible(format!("{name} did not refuse: {other:?}"))),
        }
    }
    tokio::time::sleep(REST).await;
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in cluster.names() {
        let request = pb::RangeRequest { serializable: true, ..prefix("divergence/") };
        let Reply::Ok(answer) = cluster.observer_of(&name)?.range(request).await else {
            return Err(Failure::impossible(format!("{name} cannot be read")));
        };
        states.insert(name, answer.kvs.iter().map(|kv| text(&kv.key)).collect());
    }
    let mut story = told.join("\n  ");
    for (name, keys) in &states {
        story.push_str(&format!("\n  {name} holds {keys:?}"));
    }
    match states.values().all(Vec::is_empty) {
        true => Ok(story),
        false => Err(Failure::broken(format!("what was refused was applied:\n  {story}"))),
    }
}
