//! The controllers of the control plane, one folder each: `plan.rs` decides, purely, what is to be written;
//! `reconcile.rs` reads caches and writes.
//!
//! Invariants: they act only under leadership; replicas never exceed what is asked for plus surge; a live
//! owner's dependents are never collected; when nothing changes, nothing is written.

pub mod clusterrole_aggregation;
pub mod common;
mod config;
pub mod constants;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod garbage_collector;
pub mod namespace;
pub mod node_lifecycle;
pub mod pod_gc;
pub mod replicaset;
pub mod root_ca;
mod run;
pub mod serviceaccount;
pub mod taint_eviction;

pub use config::ControllersConfig;
pub use run::run;
