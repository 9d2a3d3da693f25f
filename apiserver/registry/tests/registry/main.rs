//! The generic operations over a store in memory.

mod common;
mod deletion;
mod writes;
