use std::collections::BTreeMap;

use crate::constants::{RESTART_BACKOFF_S_MAX, RESTART_BACKOFF_S_MIN};

/// What the agent remembers of a pod beside what the runtime shows. All of it may be lost with the agent:
/// a restarted agent begins with the default and is right again after the next probes.
#[derive(Clone, Debug, Default)]
pub struct PodMemory {
    pub containers: BTreeMap<String, ContainerMemory>,
    /// The pod is ended by the node with this phase `Failed` reason and message: refused, evicted, deadline.
    pub failed: Option<(String, String)>,
    /// Why the sandbox could not be started, if the last try failed.
    pub sandbox_error: Option<String>,
    /// No further try before this time.
    pub sandbox_retry_at_unix_s: i64,
}

#[derive(Clone, Debug, Default)]
pub struct ContainerMemory {
    /// Ends in a row that count for the back-off.
    pub failures: u32,
    /// No restart before this time.
    pub retry_at_unix_s: i64,
    /// Why it could not be started, if the last try failed: reason (`ErrImagePull`, `ImagePullBackOff`,
    /// `CreateContainerConfigError`, `RunContainerError`) and message.
    pub start_error: Option<(String, String)>,
    /// Starts in a row that failed.
    pub start_failures: u32,
    /// The id of the container whose end has been counted.
    pub counted: String,
    pub startup: ProbeState,
    pub liveness: ProbeState,
    pub readiness: ProbeState,
}

/// The verdict of one kind of probe on the running container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeState {
    /// There is no such probe, or it has not spoken yet.
    #[default]
    Unknown,
    Success,
    Failure,
}

/// The pause after `failures` ends in a row: 10 s, 20 s, 40 s ... 300 s; none after the first.
///
/// # Example
/// A container that ends at once: started, at once again, then after 10 s, 20 s, 40 s.
pub fn backoff_s(failures: u32) -> i64 {
    let Some(doublings) = failures.checked_sub(2) else { return 0 };
    let seconds = RESTART_BACKOFF_S_MIN.saturating_mul(1_u64 << doublings.min(32));
    seconds.min(RESTART_BACKOFF_S_MAX) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound() {
        let pauses: Vec<i64> = (0..9).map(backoff_s).collect();
        assert_eq!(pauses, [0, 0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff_s(u32::MAX), 300);
    }
}
