//! Scenarios: the product's own code on the simulated world, under load and faults that a seed decides, and
//! the invariants that must hold whatever happened.
//!
//! A run has three parts: load under faults (safety), all faults repaired (heal), everything must come to
//! rest and agree (liveness). One seed per OS process; the same seed and binary give the same event hash.

mod batch;
mod bugs;
mod clock;
pub mod constants;
mod effort;
mod faults;
mod leaders;
mod log;
mod member;
mod options;
mod plan;
mod points;
mod report;
mod run;
mod scratch;
mod shrink;
mod simulation;
mod stack;
mod store;
mod subscriber;
mod trace;

pub use batch::{Batch, Batched};
pub use bugs::{Finding, Hunt};
pub use options::{Options, Plant, Scenario};
pub use plan::Plan;
pub use report::Report;
pub use run::{run, Ended};
pub use shrink::{shrink, write_case, Shrunk};
