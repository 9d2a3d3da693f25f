//! The chaos suite: real processes, real kubectl, real `kill -9`.
//!
//! Exit codes: 0 everything held, 1 something did not, 2 it could not be tried (wrong flags, no kubectl, a
//! verdict that the checkers could not reach).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a leaf: it starts processes and reads clocks

mod bench;
mod cluster;
mod cluster_run;
mod commands;
mod compare;
mod constants;
mod e2e;
mod failure;
mod fault_flags;
mod history;
mod http_client;
mod interrupt;
mod kubeconfig;
mod kubectl;
mod long;
mod own_cluster;
mod processes;
mod report;
mod store_members;
mod store_run;
mod story;
mod table;
mod writer;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
