//! What clients do until the load ends; one file a workload, each with the checks that judge it.

mod leases;
mod lists;
mod registers;

use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        Arc,
    },
    time::Duration,
};

use keelstone_checkers::{Ending, Event, Violation};
use keelstone_env::Random;
use keelstone_etcd_api::pb::{self, compare::CompareTarget, compare::TargetUnion, request_op::Request};
use keelstone_mvcc::{Op, Response};
use keelstone_world::{EventHash, SeededRandom};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    cluster::{CallError, Client},
    member::Member,
};

/// What all workloads have.
#[derive(Clone)]
pub struct Load {
    pub seed: u64,
    pub members: Vec<Arc<Member>>,
    pub hash: EventHash,
    over: Arc<AtomicBool>,
    /// Operations by their end: ok, failed, unknown.
    counts: Arc<[AtomicUsize; 3]>,
}

impl Load {
    pub fn new(seed: u64, members: &[Arc<Member>], hash: &EventHash) -> Self {
        Self { seed, members: members.to_vec(), hash: hash.clone(), over: Arc::default(), counts: Arc::default() }
    }

    pub fn end(&self) {
        self.over.store(true, Relaxed);
    }

    pub fn goes_on(&self) -> bool {
        !self.over.load(Relaxed)
    }

    pub fn counts(&self) -> [usize; 3] {
        [0, 1, 2].map(|i| self.counts[i].load(Relaxed))
    }

    pub fn client(&self, first: u64) -> Client {
        Client::new(&self.members, first)
    }

    fn random(&self, name: &str) -> SeededRandom {
        SeededRandom::derive(self.seed, name)
    }

    /// Counts an operation and puts it into the event hash.
    fn ended(&self, ending: &Ending, text: &str) {
        self.hash.add(text);
        let place = match ending {
            Ending::Ok => 0,
            Ending::Failed => 1,
            Ending::Unknown => 2,
        };
        self.counts[place].fetch_add(1, Relaxed);
    }
}

/// One workload with its history.
pub trait Workload {
    fn start(&self, load: &Load) -> Vec<JoinHandle<()>>;

    /// # Errors
    /// What its history breaks; `log` are all changes of the store.
    fn check(&self, log: &[Event]) -> Result<(), Violation>;
}

pub fn all() -> Vec<Box<dyn Workload>> {
    vec![Box::<registers::Registers>::default(), Box::<lists::Lists>::default(), Box::<leases::Leases>::default()]
}

async fn think(random: &SeededRandom, ms_max: u64) {
    sleep(Duration::from_millis(random.below(ms_max))).await;
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Puts all values if each key's modification revision is this; 0: the key is absent.
fn guarded(guards: &[(&str, i64)], puts: Vec<pb::PutRequest>) -> Op {
    let compare = |(key, revision): &(&str, i64)| pb::Compare {
        result: pb::compare::CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: (*key).to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(*revision)),
        ..Default::default()
    };
    let put = |put| pb::RequestOp { request: Some(Request::RequestPut(put)) };
    Op::Txn(pb::TxnRequest {
        compare: guards.iter().map(compare).collect(),
        success: puts.into_iter().map(put).collect(),
        failure: Vec::new(),
    })
}

/// The revision of a write, and whether it was carried out.
async fn write(client: &Client, op: Op) -> Result<(i64, bool), CallError> {
    let (header, done) = match client.propose(op).await? {
        Response::Put(answer) => (answer.header, true),
        Response::DeleteRange(answer) => (answer.header, true),
        Response::Txn(answer) => (answer.header, answer.succeeded),
        other => return Err(CallError { unknown: true, text: format!("a write was answered with {other:?}") }),
    };
    Ok((header.map_or(0, |header| header.revision), done))
}
