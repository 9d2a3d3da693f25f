//! Chores of the repository: `cargo run -p keelstone-xtask -- <chore>`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a tool for people, outside the simulation

mod facts;
mod licences;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("facts") => facts::run(std::env::args().skip(2).collect()),
        Some("licences") => licences::run(),
        Some("tidy") => tidy::run(),
        _ => {
            eprintln!("usage: keelstone-xtask facts|licences|tidy");
            ExitCode::from(2)
        }
    }
}
