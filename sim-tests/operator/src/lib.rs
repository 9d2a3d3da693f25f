//! How to test an operator of one's own in the simulation: link it, give it a client of the simulated network,
//! let an API server disturb its requests by a plan, and say what must always hold.
//!
//! [`fleet`] stands for that operator: written with kube-rs alone, it knows nothing of simulation. The rest is
//! the part to copy: [`client`] gives kube-rs the simulated network, [`master`] is what it talks to, [`user`]
//! says what must hold, [`world`] puts all on hosts and runs them from one seed. `tests/fleet.rs` finds the bug
//! planted in the operator.

pub mod client;
pub mod fleet;
pub mod master;
pub mod user;
pub mod world;
