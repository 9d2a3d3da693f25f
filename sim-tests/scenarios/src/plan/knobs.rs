use std::time::Duration;

use keelstone_env::Random;
use keelstone_raft::Limits;
use keelstone_world::SeededRandom;

const USUAL_NODES: u64 = 3;
const USUAL_WINDOW: u64 = keelstone_mvcc::constants::WATCH_WINDOW_EVENTS_MAX as u64;
const USUAL_BATCH: u64 = keelstone_mvcc::constants::WATCH_BATCH_EVENTS_MAX as u64;

/// Settings that a seed draws, the same on all members. As text: `<name> <number>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knobs {
    pub flush_bytes: u64,
    pub flush_ms: u64,
    pub kept_entries: u64,
    pub segment_bytes: u64,
    /// The engine flushes by itself at one of so many writes; 0: never.
    pub self_flush_one_in: u64,
    /// Clients compact so often; 0: never.
    pub compact_ms: u64,
    /// Time to live of the leases of clients.
    pub lease_ttl_s: u64,
    /// A task that could go on lets others overtake it so many of 100 times: the order of tasks is shuffled.
    pub overtake_percent: u64,
    /// Events that the hub keeps for watchers; older ones are read from the store.
    pub watch_window_events: u64,
    /// Events that a watcher is given at once at most.
    pub watch_batch_events: u64,
    /// Clients of the store pause together for so long, again and again; 0: never.
    pub lull_ms: u64,
    /// What each pod of the stack's Deployment asks for, in thousandths of a core.
    pub pod_cpu_millis: u64,
    /// 1: scheduler and controllers ask another master's API server first, not their own.
    pub far_api: u64,
    /// 1: after the faults one worker goes away for a while.
    pub node_loss: u64,
    /// 1: the Deployment is neither scaled nor updated, only robbed of pods; 2: it is left alone.
    pub web_steady: u64,
    /// Nodes of the stack.
    pub nodes: u64,
    /// 1: masters and nodes keep Kubernetes' periods, which are longer than those of a simulation.
    pub usual_periods: u64,
    /// Fault points pause or take rare branches at so many of 100 points; 0: none.
    pub points_percent: u64,
}

impl Knobs {
    pub fn draw(random: &SeededRandom) -> Self {
        let one_of = |values: &[u64]| values[random.below(values.len() as u64) as usize];
        Self {
            flush_bytes: 2_000 << random.below(8),
            flush_ms: one_of(&[300, 1_000, 4_000]) + random.below(6_000) * random.below(2),
            kept_entries: one_of(&[1, 1, 10, 100]),
            segment_bytes: 4_096 << random.below(8),
            self_flush_one_in: one_of(&[0, 3, 30]),
            compact_ms: one_of(&[0, 2_000, 250]),
            lease_ttl_s: one_of(&[2, 2, 2, 3, 6]),
            points_percent: one_of(&[0, 15, 40]),
            overtake_percent: one_of(&[0, 10, 40]),
            watch_window_events: one_of(&[1, 20, USUAL_WINDOW]),
            watch_batch_events: one_of(&[1, 3, USUAL_BATCH]),
            lull_ms: one_of(&[0, 0, 700, 1_500]),
            pod_cpu_millis: one_of(&[300, 450]),
            far_api: one_of(&[0, 1]),
            node_loss: one_of(&[0, 0, 1]),
            web_steady: one_of(&[0, 0, 1]),
            nodes: USUAL_NODES,
            usual_periods: 0,
        }
    }

    /// What the product uses if nobody sets it low.
    pub fn usual() -> Self {
        Self {
            flush_bytes: 64 << 20,
            flush_ms: 30_000,
            kept_entries: 10_000,
            segment_bytes: 64 << 20,
            self_flush_one_in: 0,
            compact_ms: 0,
            lease_ttl_s: 6,
            points_percent: 0,
            overtake_percent: 0,
            watch_window_events: USUAL_WINDOW,
            watch_batch_events: USUAL_BATCH,
            lull_ms: 0,
            pod_cpu_millis: 300,
            far_api: 0,
            node_loss: 0,
            web_steady: 0,
            nodes: USUAL_NODES,
            usual_periods: 0,
        }
    }

    pub fn limits(&self) -> Limits {
        Limits {
            flush_bytes: self.flush_bytes,
            flush_interval: Duration::from_millis(self.flush_ms),
            kept_entries: self.kept_entries,
            segment_bytes_max: self.segment_bytes,
        }
    }

    fn fields(&mut self) -> [(&'static str, &mut u64); 18] {
        [
            ("flush_bytes", &mut self.flush_bytes),
            ("flush_ms", &mut self.flush_ms),
            ("kept_entries", &mut self.kept_entries),
            ("segment_bytes", &mut self.segment_bytes),
            ("self_flush_one_in", &mut self.self_flush_one_in),
            ("compact_ms", &mut self.compact_ms),
            ("lease_ttl_s", &mut self.lease_ttl_s),
            ("points_percent", &mut self.points_percent),
            ("overtake_percent", &mut self.overtake_percent),
            ("watch_window_events", &mut self.watch_window_events),
            ("watch_batch_events", &mut self.watch_batch_events),
            ("lull_ms", &mut self.lull_ms),
            ("pod_cpu_millis", &mut self.pod_cpu_millis),
            ("far_api", &mut self.far_api),
            ("node_loss", &mut self.node_loss),
            ("web_steady", &mut self.web_steady),
            ("nodes", &mut self.nodes),
            ("usual_periods", &mut self.usual_periods),
        ]
    }

    /// Every setting with its value.
    pub fn list(&self) -> Vec<(&'static str, u64)> {
        self.clone().fields().map(|(name, value)| (name, *value)).to_vec()
    }

    /// False if there is no such setting.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let field = self.fields().into_iter().find(|(known, _)| *known == name);
        field.map(|(_, field)| *field = value).is_some()
    }
}
