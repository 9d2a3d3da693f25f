//! Bounds and periods, with their units.

/// The first pause before a container that ended is started again; doubles from restart to restart.
pub const RESTART_BACKOFF_S_MIN: u64 = 10;
/// The longest pause before a restart.
pub const RESTART_BACKOFF_S_MAX: u64 = 300;
/// A container that ran so long starts again without memory of earlier failures.
pub const RESTART_BACKOFF_RESET_S: u64 = 600;
/// Pods on one node (the kubelet's default).
pub const PODS_MAX: usize = 110;
/// The runtime is looked at so often, beside after each action.
pub const OBSERVE_EVERY_MS: u64 = 1_000;
/// One line of a container's log is kept in pieces of at most so many bytes (CRI's `P` tag).
pub const LOG_LINE_BYTES_MAX: usize = 16 << 10;
/// The pause before a sandbox that could not be started is tried again.
pub const SANDBOX_BACKOFF_S: i64 = 2;
/// The first pause after a container could not be started (an image that is not there, a missing Secret);
/// doubles with each failure.
pub const IMAGE_BACKOFF_S_MIN: i64 = 5;
pub const IMAGE_BACKOFF_S_MAX: i64 = 300;
/// A call to the container runtime that takes longer is given up; the runtime counts as not answering.
pub const CRI_CALL_S_MAX: u64 = 120;
/// Looking at the runtime is quick, or it does not answer.
pub const CRI_LOOK_S_MAX: u64 = 10;
/// Connecting to the runtime's socket.
pub const CRI_CONNECT_S_MAX: u64 = 2;
/// One pull of an image.
pub const IMAGE_PULL_S_MAX: u64 = 600;
/// Answers of the container runtime (ExecSync's output is bounded by the runtime at twice 16 MiB).
pub const CRI_ANSWER_BYTES_MAX: usize = 40 << 20;
/// Output of a probe or hook that is kept.
pub const EXEC_BYTES_MAX: usize = 16 << 10;
