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

use std::{sync::Arc, time::Duration};

pub use calls::{delete, put};
use keelstone_checkers::{Event, Outcome, Violation};
use keelstone_env::{Env, Random};
use keelstone_store_client::{GrpcKv, GrpcKvOptions, KvError};
use keelstone_world::SeededRandom;
use tokio::task::JoinHandle;

use crate::{
    constants::{LULL_PERIOD, STORE_CLIENT_PORT},
    effort::Effort,
    plan::Plan,
    simulation::Shared,
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
    pub effort: Effort,
}

impl Clients {
    /// A client of all members that begins with the one of this index.
    pub fn kv(&self, first: u64) -> GrpcKv {
        let mut endpoints: Vec<String> = self.names.iter().map(|name| format!("{name}:{STORE_CLIENT_PORT}")).collect();
        endpoints.rotate_left(first as usize % self.names.len());
        GrpcKv::new(&self.env, GrpcKvOptions::new(endpoints)).expect("valid endpoints")
    }

    /// A client of this member alone.
    pub fn kv_of(&self, name: &str) -> GrpcKv {
        let options = GrpcKvOptions::new(vec![format!("{name}:{STORE_CLIENT_PORT}")]);
        GrpcKv::new(&self.env, options).expect("a valid endpoint")
    }

    /// Randomness for one purpose.
    pub fn random(&self, name: &str) -> SeededRandom {
        SeededRandom::derive(self.plan.seed, name)
    }

    /// Pauses before the next operation.
    pub async fn think(&self, random: &SeededRandom, ms_max: u64) {
        tokio::time::sleep(Duration::from_millis(random.below(ms_max))).await;
        if let Some(left) = self.lull_left() {
            tokio::time::sleep(left).await;
        }
    }

    /// All clients rest.
    pub fn in_lull(&self) -> bool {
        self.lull_left().is_some()
    }

    /// A lull is the end of each period.
    fn lull_left(&self) -> Option<Duration> {
        let lull = Duration::from_millis(self.plan.knobs.lull_ms);
        let into_ms = turmoil::sim_elapsed().unwrap_or_default().as_millis() % LULL_PERIOD.as_millis();
        let left = LULL_PERIOD - Duration::from_millis(into_ms as u64);
        (left <= lull).then_some(left)
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
