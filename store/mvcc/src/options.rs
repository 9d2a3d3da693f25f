use keelstone_env::Env;

use crate::constants;

/// What an owner may choose. Nothing here changes what a command does: members may differ.
#[derive(Clone)]
pub struct MvccOptions {
    /// Where watchers that lag read their pages; without it they read in place.
    pub env: Option<Env>,
    /// [`Mvcc::check_quota`](crate::Mvcc::check_quota) refuses writes beyond so many bytes; 0 = no quota.
    pub quota_bytes: u64,
    /// See [`constants::WATCH_WINDOW_EVENTS_MAX`]; at least 1.
    pub watch_window_events_max: usize,
    /// See [`constants::WATCH_BATCH_EVENTS_MAX`]; at least 1.
    pub watch_batch_events_max: usize,
}

impl Default for MvccOptions {
    fn default() -> Self {
        Self {
            env: None,
            quota_bytes: constants::QUOTA_BYTES_DEFAULT,
            watch_window_events_max: constants::WATCH_WINDOW_EVENTS_MAX,
            watch_batch_events_max: constants::WATCH_BATCH_EVENTS_MAX,
        }
    }
}
