//! Bounds, periods and weights, with Kubernetes' defaults.

/// What a container without a request for CPU or memory counts as when nodes are compared (never when it is
/// decided whether a pod fits).
pub const DEFAULT_CPU_MILLI: i64 = 100;
pub const DEFAULT_MEMORY_BYTES: i64 = 200 << 20;
/// The best score of one plugin.
pub const SCORE_MAX: i64 = 100;
/// Pods on a node whose allocatable resources do not say how many it takes.
pub const PODS_PER_NODE: i64 = 110;
/// Back-off of a pod that could not be placed: first, doubled for each further try, and longest.
pub const BACKOFF_MS_MIN: u64 = 1_000;
pub const BACKOFF_MS_MAX: u64 = 10_000;
/// A pod that could not be placed is tried again after this long even if nothing seems to have changed.
pub const UNSCHEDULABLE_S_MAX: u64 = 300;
/// Bindings under way at a time.
pub const BINDINGS_MAX: usize = 64;
/// How long a binding of unknown outcome may still take effect.
pub const BINDING_UNCERTAIN_MS: u64 = 3_000;
/// Pause between attempts to find out what became of a binding.
pub const BINDING_CHECK_MS: u64 = 1_000;
/// Scheduling attempts between two looks at what has changed.
pub const BATCH_PODS_MAX: usize = 16;
/// Weights of the plugins' scores.
pub const TAINT_TOLERATION_WEIGHT: i64 = 3;
pub const NODE_AFFINITY_WEIGHT: i64 = 2;
pub const POD_TOPOLOGY_SPREAD_WEIGHT: i64 = 2;
pub const INTER_POD_AFFINITY_WEIGHT: i64 = 2;
pub const RESOURCES_FIT_WEIGHT: i64 = 1;
pub const BALANCED_ALLOCATION_WEIGHT: i64 = 1;
/// Weight of a required affinity term of a running pod when nodes are compared for another.
pub const HARD_POD_AFFINITY_WEIGHT: i64 = 1;
