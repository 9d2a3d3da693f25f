//! Whole masters and workers on the bed, and what is asked of a Kubernetes cluster under faults: clients of its API
//! ([`workloads`]), faults of workers ([`nemeses`], beside those of the store, which strike the masters), and defects
//! that the checks must find ([`planted`]).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a leaf: it starts processes and reads clocks

mod api;
pub mod constants;
pub mod http_client;
pub mod nemeses;
mod pki;
pub mod planted;
mod processes;
pub mod steps;
mod target;
mod windows;
pub mod workloads;

pub use api::{read_by_list, revision, Api};
pub use target::{Timings, WholeTarget};
