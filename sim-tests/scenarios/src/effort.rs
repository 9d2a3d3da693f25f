use std::{
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        Arc,
    },
    time::Duration,
};

use keelstone_checkers::{Ending, Outcome};

use crate::{
    plan::Plan,
    simulation::{Shared, Stage},
};

/// Counts the clients' operations and says when it is enough.
#[derive(Clone)]
pub struct Effort {
    shared: Shared,
    /// Known, failed, unknown.
    counts: Arc<[AtomicUsize; 3]>,
    operations_min: usize,
    load_time_min: Duration,
}

impl Effort {
    /// What `plan` asks for, for `time_factor` times as long.
    pub fn new(shared: &Shared, plan: &Plan, time_factor: u32) -> Self {
        Self {
            shared: shared.clone(),
            counts: Arc::default(),
            operations_min: plan.operations_min,
            load_time_min: Duration::from_millis(plan.load_ms_min) * time_factor,
        }
    }

    /// Operations whose end is known, that failed, and of unknown outcome.
    pub fn counts(&self) -> [usize; 3] {
        [0, 1, 2].map(|i| self.counts[i].load(Relaxed))
    }

    /// More load is wanted.
    pub fn goes_on(&self) -> bool {
        let enough = self.counts().iter().sum::<usize>() >= self.operations_min
            && turmoil::sim_elapsed().unwrap_or_default() >= self.load_time_min;
        self.shared.stage() == Stage::Load && !enough
    }

    /// Counts an operation, and adds what the client knows of it to the event hash.
    pub fn count(&self, outcome: &Outcome, text: &str) {
        self.count_ending(&outcome.ending(), text);
    }

    /// As [`Effort::count`], for calls that tell no more than how they ended.
    pub fn count_ending(&self, ending: &Ending, text: &str) {
        let kind = match ending {
            Ending::Ok => 0,
            Ending::Failed => 1,
            Ending::Unknown => 2,
        };
        self.counts[kind].fetch_add(1, Relaxed);
        self.shared.hash(text);
    }
}
