//! What the store's core uses of tokio, on madsim's executor and clock, under tokio's names.
//!
//! With `--cfg madsim` (`make madsim`) the core's crates are built against this one instead of tokio; in every other
//! build it is empty and nobody depends on it. Channels, locks and `select!` are tokio's own: they need no runtime.
#![cfg(madsim)]

pub mod time;

pub use madsim::task::{self, spawn};
pub use tokio::{io, join, pin, select, sync, try_join};
