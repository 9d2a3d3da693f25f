//! The group `apps`, v1.

pub mod deployment;
pub mod replica_set;
pub mod rolling_update;
pub mod workload;
