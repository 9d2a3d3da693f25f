use std::{collections::VecDeque, sync::Arc};

use super::RevisionEvents;
use crate::constants::{WATCH_BATCH_BYTES_MAX, WATCH_WINDOW_BYTES_MAX};

/// The newest revisions' events. Bounded by events and bytes: the oldest revisions go first.
pub struct Window {
    revisions: VecDeque<Arc<RevisionEvents>>,
    events: usize,
    bytes: usize,
    events_max: usize,
}

impl Window {
    pub fn new(events_max: usize) -> Self {
        Self { revisions: VecDeque::new(), events: 0, bytes: 0, events_max: events_max.max(1) }
    }

    pub fn push(&mut self, revision: Arc<RevisionEvents>) {
        self.events += revision.changes.len();
        self.bytes += bytes(&revision);
        self.revisions.push_back(revision);
        while self.events > self.events_max || self.bytes > WATCH_WINDOW_BYTES_MAX {
            let Some(oldest) = self.revisions.pop_front() else { return };
            self.events -= oldest.changes.len();
            self.bytes -= bytes(&oldest);
        }
    }

    pub fn clear(&mut self) {
        self.revisions.clear();
        (self.events, self.bytes) = (0, 0);
    }

    /// Revisions from `from` on, about a batch of them; `None` if some of them are no longer here.
    pub fn from(&self, from: i64, events_max: usize) -> Option<Vec<Arc<RevisionEvents>>> {
        let first = self.revisions.front()?.revision;
        // Every revision has events, so that the window has no gaps.
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let (mut events, mut size) = (0, 0);
        let wanted = self.revisions.iter().skip(skip).take_while(|revision| {
            let takes = events < events_max && size < WATCH_BATCH_BYTES_MAX;
            events += revision.changes.len();
            size += bytes(revision);
            takes
        });
        Some(wanted.cloned().collect())
    }
}

fn bytes(revision: &RevisionEvents) -> usize {
    revision.changes.iter().map(|change| change.kv.key.len() + change.kv.value.len()).sum()
}
