//! What clients do on the store. A workload is one file: clients that act and record, and what must hold of what
//! they saw. To add one, write the file and add it to [`all`].

mod append;
mod bank;
mod calls;
mod leases;
mod locks;
mod registers;
mod sets;
mod watches;

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        Arc,
    },
    time::Duration,
};

pub use calls::put;
use keelstone_checkers::{Event, Outcome, Violation};
use keelstone_env::{Env, Random};
use keelstone_store_client::{GrpcKv, GrpcKvOptions, KvError};
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use crate::{
    constants::STORE_CLIENT_PORT,
    plan::Plan,
    simulation::{Shared, Stage},
};

/// Changes of these keys are read back at the end, as the log that checks compare with.
pub const LOG_FIRST: &str = "k";
pub const LOG_END: &str = "l";

pub trait Workload {
    fn name(&self) -> &'static str;

    /// Starts the clients; the load has ended when all tasks have.
    fn start(&self, clients: &Clients) -> Vec<JoinHandle<()>>;

    /// What must hold whatever happened, without a log.
    ///
    /// # Errors
    /// What does not hold.
    fn check(&self) -> Result<(), Violation>;

    /// What must hold of the log that was read at the end.
    ///
    /// # Errors
    /// What does not hold.
    fn check_log(&self, _log: &[Event]) -> Result<(), Violation> {
        Ok(())
    }
}

/// Every workload; the first one says the most and always runs.
pub fn all() -> Vec<Box<dyn Workload>> {
    vec![
        Box::<registers::Registers>::default(),
        Box::<watches::Watches>::default(),
        Box::<append::Append>::default(),
        Box::<sets::Sets>::default(),
        Box::<bank::Bank>::default(),
        Box::<leases::Leases>::default(),
        Box::<locks::Locks>::default(),
    ]
}

/// What the clients of all workloads share.
#[derive(Clone)]
pub struct Clients {
    pub plan: Arc<Plan>,
    pub env: Env,
    pub names: Vec<String>,
    pub shared: Shared,
    /// Known, failed, unknown.
    pub counts: Arc<[AtomicUsize; 3]>,
}

impl Clients {
    /// A client of all members that begins with the one of this index.
    pub fn kv(&self, first: u64) -> GrpcKv {
        let mut endpoints: Vec<String> = self.names.iter().map(|name| format!("{name}:{STORE_CLIENT_PORT}")).collect();
        endpoints.rotate_left(first as usize % self.names.len());
        GrpcKv::new(&self.env, GrpcKvOptions::new(endpoints)).expect("valid endpoints")
    }

    /// Randomness for one purpose.
    pub fn random(&self, name: &str) -> SeededRandom {
        SeededRandom::derive(self.plan.seed, name)
    }

    /// More load is wanted.
    pub fn goes_on(&self) -> bool {
        let total: usize = self.counts.iter().map(|count| count.load(Relaxed)).sum();
        let lasted = turmoil::sim_elapsed().unwrap_or_default() >= Duration::from_millis(self.plan.load_ms_min);
        self.shared.stage() == Stage::Load && !(total >= self.plan.operations_min && lasted)
    }

    /// Pauses before the next operation.
    pub async fn think(&self, random: &SeededRandom, ms_max: u64) {
        tokio::time::sleep(Duration::from_millis(random.below(ms_max))).await;
    }

    /// Counts an operation, and adds what the client knows of it to the event hash.
    pub fn count(&self, outcome: &Outcome, text: &str) {
        let kind = match outcome {
            Outcome::Failed { .. } => 1,
            Outcome::Unknown { .. } => 2,
            _ => 0,
        };
        self.counts[kind].fetch_add(1, Relaxed);
        self.shared.hash(text);
    }

    /// As [`Clients::count`], for calls that tell no more than how they ended.
    pub fn count_ending(&self, ending: &keelstone_checkers::Ending, text: &str) {
        use keelstone_checkers::Ending;
        let kind = match ending {
            Ending::Ok => 0,
            Ending::Failed => 1,
            Ending::Unknown => 2,
        };
        self.counts[kind].fetch_add(1, Relaxed);
        self.shared.hash(text);
    }
}

/// What an error says of a write.
fn judge(error: &KvError) -> Outcome {
    if error.outcome_unknown() {
        Outcome::Unknown { error: error.to_string() }
    } else {
        Outcome::Failed { error: error.to_string() }
    }
}
