//! An engine that keeps everything in memory and makes it durable in one file on the env's disk.

mod columns;
mod engine;
mod file;
mod frame;

pub use engine::{MemEngine, MemOptions};
