//! The controllers of the control plane, one folder each: `plan.rs` decides, purely, what is to be written;
//! `reconcile.rs` reads caches and writes.
//!
//! Invariants: they act only under leadership; replicas never exceed what is asked for plus surge; a live
//! owner's dependents are never collected; when nothing changes, nothing is written.

pub mod common;
pub mod constants;
pub mod deployment;
pub mod replicaset;
