use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// How the disk under the log does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalHealth {
    /// It has no space: writes wait until it has. Nothing that was durable is touched.
    pub full: bool,
    /// Since when the write that is under way is; absent if there is none.
    pub busy_since: Option<Instant>,
}

#[derive(Default)]
pub(crate) struct HealthCell(Mutex<WalHealth>);

impl HealthCell {
    pub(crate) fn get(&self) -> WalHealth {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn busy(&self, since: Option<Instant>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).busy_since = since;
    }

    /// Returns whether that is news.
    pub(crate) fn full(&self, full: bool) -> bool {
        let mut health = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut health.full, full) != full
    }
}
