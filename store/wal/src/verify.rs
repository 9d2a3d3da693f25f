use std::path::Path;

use keelstone_env::Env;

use crate::{recovery, WalError};

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalSummary {
    pub segments: usize,
    /// Index of the first entry.
    pub first: Option<u64>,
    /// Index and term of the last entry.
    pub last: Option<(u64, u64)>,
    /// Up to which index entries were removed because the state holds them.
    pub purged: Option<u64>,
    /// Bytes at the end that were never acknowledged and will be cut at the next start.
    pub torn_bytes: u64,
}

/// Reads the whole log in `dir` and checks every checksum; changes nothing. The member must not be running.
/// Blocks.
///
/// # Errors
/// The first damage, with its segment and byte.
pub fn verify(env: &Env, dir: &Path) -> Result<WalSummary, WalError> {
    recovery::inspect(env, dir)
}
