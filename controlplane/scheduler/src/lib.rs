//! The scheduler: decides which node each pod runs on.
//!
//! [`schedule`] is pure: from a [`Snapshot`] of the cluster and a pod to a node, by the plugins' rules. Around it
//! are a queue of pods that wait, a cache that counts pods as assigned before the API shows it, and bindings.
//!
//! Invariant: the requests of the pods on a node never add up to more than it has, also across a change of
//! leader: a leader begins with lists that a quorum confirms, and a binding of unknown outcome keeps its room
//! until it is known what became of it.

mod bind;
mod cache;
pub mod constants;
mod framework;
mod node_info;
mod plugins;
mod pod_info;
mod queue;
mod resources;
mod schedule;
mod scheduler;
mod selectors;
mod snapshot;

pub use framework::{Judge, Plugin};
pub use node_info::NodeInfo;
pub use plugins::all as default_plugins;
pub use pod_info::{HostPort, PodInfo};
pub use resources::{pod_requests, Resources};
pub use schedule::{schedule, Decision};
pub use scheduler::{run, SchedulerConfig};
pub use snapshot::Snapshot;
