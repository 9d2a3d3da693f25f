//! A whole cluster on one machine: `up`, `down`, `status`, `kill`.

mod commands;
mod process;
mod spec;

pub use commands::{down, kill, status, up, ClusterArguments, KillArguments, UpArguments};
