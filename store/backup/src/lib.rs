//! Backups: etcd's snapshot files (written, streamed, read, imported), continuous backup to a directory, and
//! restores from both.
//!
//! Invariants: whatever a file's bytes are, reading it ends in a value or an error that says what is wrong and
//! where; what is written is streamed in bounded memory; the disk is reached through `Env` alone.

pub mod archive;
pub mod bbolt;
pub mod constants;
mod error;
pub mod etcd;

pub use error::BackupError;
