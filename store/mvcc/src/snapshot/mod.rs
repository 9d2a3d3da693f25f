//! Snapshots: a pinned view is sent in chunks, and installed beside the old state, which it then replaces
//! in one write.

mod chunk;
mod install;
mod pin;

pub(crate) use chunk::{Chunk, Pair};
pub use install::Installer;
pub use pin::Pinned;
