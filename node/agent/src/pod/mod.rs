//! What is to be done for one pod, and what is to be said of it.

mod memory;
mod plan;
mod status;

pub use memory::{backoff_s, ContainerMemory, PodMemory, ProbeState};
pub use plan::{plan, Action, Plan};
pub use status::status;
