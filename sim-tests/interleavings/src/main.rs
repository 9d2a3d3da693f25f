//! `keelstone-interleavings`: the store's core (consensus, MVCC, leases, watches) on madsim, whose scheduler takes the
//! tasks that could go on in any order. The same checkers as everywhere (`sim-tests/checkers`), seeds of its own.
//!
//! Built with `--cfg madsim`, which puts madsim in tokio's place in the core's crates (`make madsim`).

#![cfg_attr(madsim, allow(clippy::disallowed_methods, reason = "std's clock is madsim's in this build"))]

#[cfg(madsim)]
extern crate keelstone_madsim as tokio;

#[cfg(madsim)]
mod batch;
#[cfg(madsim)]
mod cluster;
#[cfg(madsim)]
mod command_line;
#[cfg(madsim)]
mod constants;
#[cfg(madsim)]
mod faults;
#[cfg(madsim)]
mod log;
#[cfg(madsim)]
mod member;
#[cfg(madsim)]
mod net;
#[cfg(madsim)]
mod points;
#[cfg(madsim)]
mod run;
#[cfg(madsim)]
mod watched;
#[cfg(madsim)]
mod workloads;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    command_line::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!("this build has no madsim in it: use `make madsim`");
    std::process::ExitCode::from(2)
}
