//! Deletes objects whose owners are gone, for all kinds that the API serves; and carries out foreground
//! deletion and orphaning.
//!
//! Invariant: caches only say what is worth looking at. An object is deleted after a read past all caches has
//! said, for each of its owners, that the owner with that uid is gone.

mod collector;
mod graph;
pub mod plan;
mod run;

pub use run::GarbageCollector;
