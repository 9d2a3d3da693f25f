//! Bounds on what objects may hold. Each is tested at its limit.

/// All values of a ConfigMap or Secret together.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;
/// Addresses of one EndpointSlice.
pub const SLICE_ENDPOINTS_MAX: usize = 1000;
/// Ports of one EndpointSlice.
pub const SLICE_PORTS_MAX: usize = 20_000;
/// Addresses of one endpoint of an EndpointSlice.
pub const ENDPOINT_ADDRESSES_MAX: usize = 100;
/// Time an idle client may stay with one endpoint under session affinity.
pub const SESSION_AFFINITY_S_MAX: i64 = 86_400;
/// The greatest value of a PriorityClass that users may create.
pub const USER_PRIORITY_MAX: i64 = 1_000_000_000;
/// The length of an event's note or message.
pub const EVENT_MESSAGE_BYTES_MAX: usize = 1024;
/// The length of an event's reason.
pub const EVENT_REASON_BYTES_MAX: usize = 128;
