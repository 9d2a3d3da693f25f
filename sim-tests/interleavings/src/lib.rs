//! The store's core (consensus, MVCC, leases, watches) on madsim, whose scheduler takes the tasks that could go on in
//! any order. The same checkers as everywhere (`sim-tests/checkers`), seeds of its own.
//!
//! Built with `--cfg madsim`, which puts madsim in tokio's place in the core's crates (`make madsim`); in every other
//! build this crate is empty.
#![cfg(madsim)]
#![allow(clippy::disallowed_methods, reason = "std's clock is madsim's in this build")]

extern crate keelstone_madsim as tokio;

mod batch;
mod cluster;
pub mod command_line;
mod constants;
mod faults;
mod log;
mod member;
mod membership;
mod net;
mod points;
mod run;
mod watched;
mod workloads;
