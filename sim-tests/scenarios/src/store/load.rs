use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_checkers::{Call, History, Operation, Outcome};
use keelstone_env::Random;
use keelstone_etcd_api::pb;
use keelstone_store_client::{EtcdKv, GrpcKv, KvError};
use keelstone_world::SeededRandom;

use crate::{
    clock::moment_us,
    constants::*,
    simulation::{Shared, Stage},
};

const KEYS: u64 = 8;
/// Every key of the load is in `KEY_FIRST..KEY_END`.
pub const KEY_FIRST: &str = "k";
pub const KEY_END: &str = "l";
const THINK_MS_MAX: u64 = 120;

/// One client: operations one after the other until the run has enough of them.
pub async fn run(id: u32, kv: GrpcKv, random: SeededRandom, history: Arc<Mutex<History>>, shared: Shared) {
    let mut writes = 0;
    // What this client last learned of each key's modification revision.
    let mut known = vec![0; KEYS as usize];
    while shared.stage() == Stage::Load && !enough(&history) {
        tokio::time::sleep(Duration::from_millis(random.below(THINK_MS_MAX))).await;
        let index = random.below(KEYS) as usize;
        let key = format!("{KEY_FIRST}{index}");
        let call = match random.below(10) {
            0..=3 => Call::Read { key },
            kind => {
                writes += 1;
                let value = format!("{id}-{writes}");
                match kind {
                    4..=6 => Call::Write { key, value },
                    7 | 8 => Call::CompareAndSet { key, expected: known[index], value },
                    _ => Call::Delete { key },
                }
            }
        };
        let start_us = moment_us();
        let outcome = carry_out(&kv, &call).await.unwrap_or_else(|error| judge(&error));
        let end_us = moment_us();
        known[index] = match (&call, &outcome) {
            (_, Outcome::Read { mod_revision, .. }) => *mod_revision,
            (Call::Write { .. } | Call::CompareAndSet { .. }, Outcome::Written { revision }) => *revision,
            (Call::Delete { .. }, Outcome::Written { .. }) => 0,
            (_, _) => known[index],
        };
        let operation = Operation { client: id, start_us, end_us, call, outcome };
        shared.hash(&format!("{operation:?}"));
        history.lock().expect("no panic while locked").operations.push(operation);
    }
}

fn enough(history: &Mutex<History>) -> bool {
    let operations = history.lock().expect("no panic while locked").operations.len();
    operations >= OPERATIONS_MIN && turmoil::sim_elapsed().unwrap_or_default() >= SAFETY_TIME_MIN
}

fn judge(error: &KvError) -> Outcome {
    if error.outcome_unknown() {
        Outcome::Unknown { error: error.to_string() }
    } else {
        Outcome::Failed { error: error.to_string() }
    }
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

async fn carry_out(kv: &GrpcKv, call: &Call) -> Result<Outcome, KvError> {
    match call {
        Call::Read { key } => {
            let answer = kv.range(pb::RangeRequest { key: key.clone().into(), ..Default::default() }).await?;
            let found = answer.kvs.first();
            Ok(Outcome::Read {
                value: found.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()),
                mod_revision: found.map_or(0, |kv| kv.mod_revision),
                revision: revision(answer.header),
            })
        }
        Call::Write { key, value } => {
            let answer = kv.put(put(key, value)).await?;
            Ok(Outcome::Written { revision: revision(answer.header) })
        }
        Call::CompareAndSet { key, expected, value } => {
            let compare = pb::Compare {
                result: pb::compare::CompareResult::Equal as i32,
                target: pb::compare::CompareTarget::Mod as i32,
                key: key.clone().into(),
                target_union: Some(pb::compare::TargetUnion::ModRevision(*expected)),
                ..Default::default()
            };
            let write = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put(key, value))) };
            let request = pb::TxnRequest { compare: vec![compare], success: vec![write], failure: vec![] };
            let answer = kv.txn(request).await?;
            let revision = revision(answer.header);
            Ok(if answer.succeeded { Outcome::Written { revision } } else { Outcome::Refused { revision } })
        }
        Call::Delete { key } => {
            let request = pb::DeleteRangeRequest { key: key.clone().into(), ..Default::default() };
            let answer = kv.delete_range(request).await?;
            Ok(Outcome::Written { revision: revision(answer.header) })
        }
    }
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}
