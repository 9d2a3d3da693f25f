use super::WatchBatch;
use crate::MvccError;

/// One watch. Dropping it cancels it.
pub struct Watcher {}

impl Watcher {
    /// The next batch; waits while there is none. Cancel safe: a batch is lost only after it was returned.
    /// `Ok(None)` once the watch has ended as compacted.
    pub async fn next(&mut self) -> Result<Option<WatchBatch>, MvccError> {
        Ok(None)
    }

    /// The revision up to which every event was handed out by [`Watcher::next`]. Never ahead of the events.
    pub fn progress(&self) -> i64 {
        0
    }

    /// Makes [`Watcher::next`] answer with [`WatchBatch::Progress`] as soon as nothing older is left.
    pub fn request_progress(&mut self) {}
}
