//! What the runtime runs now. The runtime is polled: the lists are cheap, and details are asked for only
//! where something changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use super::pb;
use crate::runtime::{ContainerPhase, ContainerState};

/// The runtime may tell that the kernel killed a container only a moment after it told of the end.
const SETTLED_NS: i64 = 10_000_000_000;

/// A container of a pod, before the runtime has given it an id.
pub type Place = (String, String, u32);

/// What is known of sandboxes and containers whose details no longer change.
#[derive(Default)]
pub struct Known {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sandbox id to pod address.
    addresses: BTreeMap<String, String>,
    /// Container id to the state in the list for which the details were asked, and the details.
    details: BTreeMap<String, (i32, ContainerState)>,
    /// Containers that this agent is starting at this moment.
    starting: BTreeSet<Place>,
}

impl Known {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    pub fn address(&self, sandbox: &str) -> Option<String> {
        self.state().addresses.get(sandbox).cloned()
    }

    pub fn keep_address(&self, sandbox: &str, address: &str) {
        self.state().addresses.insert(sandbox.to_owned(), address.to_owned());
    }

    pub fn details(&self, id: &str, listed: i32) -> Option<ContainerState> {
        self.state().details.get(id).filter(|(at, _)| *at == listed).map(|(_, details)| details.clone())
    }

    /// Keeps details that will not change while the list shows the container in the same state.
    pub fn keep_details(&self, id: &str, listed: i32, details: &ContainerState, now_unix_ns: i64) {
        let settled = match &details.phase {
            ContainerPhase::Running => true,
            ContainerPhase::Exited { finished_unix_ns, .. } => now_unix_ns - finished_unix_ns > SETTLED_NS,
            _ => false,
        };
        if settled {
            self.state().details.insert(id.to_owned(), (listed, details.clone()));
        }
    }

    /// Forgets what is not listed any more.
    pub fn retain(&self, sandboxes: &BTreeSet<&str>, containers: &BTreeSet<&str>) {
        let mut state = self.state();
        state.addresses.retain(|id, _| sandboxes.contains(id.as_str()));
        state.details.retain(|id, _| containers.contains(id.as_str()));
    }

    pub fn is_starting(&self, place: &Place) -> bool {
        self.state().starting.contains(place)
    }

    /// Marks a container as being started until the guard is dropped.
    pub fn starting(&self, place: Place) -> Starting<'_> {
        self.state().starting.insert(place.clone());
        Starting { known: self, place }
    }
}

pub struct Starting<'a> {
    known: &'a Known,
    place: Place,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.known.state().starting.remove(&self.place);
    }
}

/// A container's status in the agent's terms.
pub fn container_state(scheme: &str, status: pb::ContainerStatus) -> ContainerState {
    let metadata = status.metadata.unwrap_or_default();
    let phase = match pb::ContainerState::try_from(status.state) {
        Ok(pb::ContainerState::ContainerCreated) => ContainerPhase::Created,
        Ok(pb::ContainerState::ContainerRunning) => ContainerPhase::Running,
        Ok(pb::ContainerState::ContainerExited) => ContainerPhase::Exited {
            code: status.exit_code,
            finished_unix_ns: status.finished_at,
            reason: match (status.reason.as_str(), status.exit_code) {
                ("", 0) => "Completed".into(),
                ("", _) => "Error".into(),
                (reason, _) => reason.to_owned(),
            },
            message: status.message,
        },
        _ => ContainerPhase::Unknown,
    };
    ContainerState {
        id: format!("{scheme}{}", status.id),
        name: metadata.name,
        attempt: metadata.attempt,
        phase,
        created_unix_ns: status.created_at,
        started_unix_ns: status.started_at,
        image: status.image.unwrap_or_default().image,
        image_id: status.image_ref,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(reason: &str, code: i32) -> ContainerState {
        let status = pb::ContainerStatus {
            id: "c1".into(),
            state: pb::ContainerState::ContainerExited as i32,
            finished_at: 100,
            exit_code: code,
            reason: reason.into(),
            ..Default::default()
        };
        container_state("containerd://", status)
    }

    #[test]
    fn an_end_has_a_reason() {
        let reason = |state: ContainerState| match state.phase {
            ContainerPhase::Exited { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(exited("", 0)), "Completed");
        assert_eq!(reason(exited("", 3)), "Error");
        assert_eq!(reason(exited("OOMKilled", 137)), "OOMKilled");
    }

    #[test]
    fn only_settled_details_are_kept() {
        let known = Known::default();
        let state = exited("", 1);
        known.keep_details("c1", 2, &state, 100 + SETTLED_NS);
        assert_eq!(known.details("c1", 2), None);
        known.keep_details("c1", 2, &state, 101 + SETTLED_NS);
        assert_eq!(known.details("c1", 2), Some(state));
        assert_eq!(known.details("c1", 1), None);
        known.retain(&BTreeSet::new(), &BTreeSet::new());
        assert_eq!(known.details("c1", 2), None);
    }

    #[test]
    fn a_start_is_marked_while_it_lasts() {
        let known = Known::default();
        let place: Place = ("s".into(), "c".into(), 0);
        let guard = known.starting(place.clone());
        assert!(known.is_starting(&place));
        drop(guard);
        assert!(!known.is_starting(&place));
    }
}
