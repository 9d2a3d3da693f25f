//! Bounds and periods of this crate, with the values of Kubernetes where it has one.

/// Pods that a ReplicaSet creates or deletes in one reconciliation.
pub const REPLICA_BURST_MAX: usize = 500;
/// The first batch of creations; each further one is twice as large while all succeed.
pub const SLOW_START_BATCH: usize = 1;
/// Bytes of `deployment.kubernetes.io/revision-history`.
pub const REVISION_HISTORY_BYTES_MAX: usize = 2_000;
/// Endpoints in one EndpointSlice.
pub const SLICE_ENDPOINTS_MAX: usize = 100;
/// Addresses in one Endpoints object.
pub const ENDPOINTS_ADDRESSES_MAX: usize = 1_000;
/// Keys of one controller worked on at a time.
pub const CONTROLLER_WORKERS: usize = 5;
/// Requests under way at a time for one key.
pub const REQUESTS_PER_KEY_MAX: usize = 16;
/// How often a namespace that is not yet empty is looked at.
pub const NAMESPACE_RECHECK_MS: u64 = 1_000;
/// How often the garbage collector asks which resources there are.
pub const DISCOVERY_S: u64 = 30;
/// The garbage collector begins after this long even if a resource cannot be listed.
pub const SYNC_S_MAX: u64 = 30;
/// Objects that the garbage collector works on at a time.
pub const COLLECTOR_WORKERS: usize = 20;
/// Owners remembered as certainly gone.
pub const ABSENT_OWNERS_MAX: usize = 500;
