//! What clients do. One small file each behind [`Workload`], and one list, [`all`].

mod append;
mod bank;
mod lease;
mod lock;
mod register;
mod set;
mod watch;

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_checkers::{Ending, Event, Violation};
use rand::rngs::SmallRng;
use serde::Serialize;

use crate::{
    cluster::Cluster,
    etcd_client::EtcdClient,
    record::{Class, Line, Recorder},
};

pub use watch::{event as watch_event, lost_and_repeated};

/// One kind of client, its final reads and its checker.
#[async_trait]
pub trait Workload: Send + Sync + Debug {
    /// Its name in the history and on the command line; its keys begin with it.
    fn name(&self) -> &'static str;

    /// How many clients it has for `hosts` members.
    fn clients(&self, hosts: u32) -> u32 {
        hosts
    }

    /// Fewer acknowledged operations say nothing.
    fn acknowledged_min(&self) -> usize {
        crate::constants::ACKNOWLEDGED_MIN
    }

    /// Before the first turn, while nothing is wrong.
    async fn prepare(&self, _cluster: &Cluster) -> Outcome<()> {
        Ok(())
    }

    /// One turn of one client: some calls, recorded.
    async fn turn(&self, actor: &mut Actor);

    /// After the last fault was healed and the clients have ended: last reads, recorded.
    async fn finish(&self, _actor: &mut Actor) -> Outcome<()> {
        Ok(())
    }

    /// Whose lines its check wants to see: its own, unless it is told.
    fn sources(&self) -> Vec<&'static str> {
        vec![self.name()]
    }

    /// Judges the lines of its [`Workload::sources`]. `log` is every change of the store, in the order of revisions.
    ///
    /// # Errors
    /// What was violated.
    fn check(&self, lines: &[&Line], log: &[Event]) -> Result<(), Violation>;
}

pub fn all() -> Vec<Arc<dyn Workload>> {
    vec![
        Arc::new(register::Registers::default()),
        Arc::new(append::AppendLists::default()),
        Arc::new(set::Sets),
        Arc::new(bank::Bank),
        Arc::new(lock::Locks),
        Arc::new(lease::Leases),
        Arc::new(watch::Followers::default()),
    ]
}

/// One client of a workload. It stays with one member.
#[derive(Debug)]
pub struct Actor {
    pub workload: &'static str,
    /// Counted over all workloads.
    pub number: u32,
    pub host: String,
    pub client: EtcdClient,
    pub rng: SmallRng,
    pub turn: u64,
    pub recorder: Arc<Recorder>,
}

impl Actor {
    pub fn now_us(&self) -> u64 {
        self.recorder.now_us()
    }

    /// A number that no other turn of any client has.
    pub fn unique(&self) -> u64 {
        (u64::from(self.number) << 32) | self.turn
    }

    pub fn record(&self, start_us: u64, kind: &str, class: Class, writes: bool, what: &impl Serialize) {
        let line = Line {
            source: self.workload.to_owned(),
            client: self.number,
            host: self.host.clone(),
            start_us,
            end_us: self.now_us(),
            kind: kind.to_owned(),
            class,
            writes,
            what: serde_json::to_value(what).unwrap_or_default(),
        };
        self.recorder.add(line);
    }
}

/// For checkers whose calls end in three ways.
pub fn ending(class: Class) -> Ending {
    match class {
        Class::Ok | Class::Info => Ending::Ok,
        Class::Failed => Ending::Failed,
        Class::Unknown => Ending::Unknown,
    }
}

/// Reads all lines of these kinds; a line that cannot be read is a damaged history.
pub fn typed<T: serde::de::DeserializeOwned>(lines: &[&Line], kinds: &[&str]) -> Result<Vec<T>, Violation> {
    let wanted = lines.iter().filter(|l| kinds.contains(&l.kind.as_str()));
    wanted.map(|l| l.read().map_err(|e| Violation::new("history", e))).collect()
}

/// Those of `all` that are named; all of them without names.
///
/// # Errors
/// There is none of that name.
pub fn named(all: Vec<Arc<dyn Workload>>, names: &[String]) -> Outcome<Vec<Arc<dyn Workload>>> {
    if let Some(unknown) = names.iter().find(|n| all.iter().all(|w| w.name() != *n)) {
        let known: Vec<&str> = all.iter().map(|w| w.name()).collect();
        return Err(Failure::impossible(format!("no workload {unknown:?}; there are: {}", known.join(", "))));
    }
    Ok(all.into_iter().filter(|w| names.is_empty() || names.iter().any(|n| n == w.name())).collect())
}
