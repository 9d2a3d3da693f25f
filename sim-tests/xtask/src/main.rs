//! Chores of the repository: `cargo run -p keelstone-xtask -- <chore>`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a tool for people, outside the simulation

mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::run(),
        _ => {
            eprintln!("usage: keelstone-xtask tidy");
            ExitCode::from(2)
        }
    }
}
