//! The node agent: runs the pods that are bound to its node, reports what runs, and keeps the node's lease.
//!
//! `pod::plan` and `pod::status` are pure: they turn a pod, what the runtime shows, and what is remembered
//! into actions and a status. The worker carries the actions out. The container [`Runtime`] is `cri`
//! (containerd), `process` (host processes in namespaces of their own) or `hollow` (pretends; scale tests).

mod admit;
mod agent;
mod config;
pub mod constants;
pub mod containerd;
mod expand;
mod fields;
mod lifecycle;
pub mod logs;
mod materials;
mod node_status;
pub mod pod;
mod probes;
pub mod runtime;
mod server;
mod volumes;
mod worker;

pub use agent::Agent;
pub use config::{AgentClock, AgentConfig, Capacity};
pub use runtime::{Runtime, RuntimeError};
