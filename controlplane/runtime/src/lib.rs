//! What every controller is made of: a work queue, a runner, shared informers, expectations, and work that
//! runs only while this process leads.
//!
//! Invariants: a key is never reconciled twice at a time; no write goes out once leadership is lost; a
//! controller does not act on a cache that is behind its own writes.

pub mod constants;
mod controller;
mod expectations;
mod informers;
mod leading;
mod queue;

pub use controller::{Action, Controller, ReconcileError, Reconciler};
pub use expectations::Expectations;
pub use informers::SharedInformers;
pub use leading::{run_when_leader, LeaderContext};
pub use queue::WorkQueue;
