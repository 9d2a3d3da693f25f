//! The state's hash at the newest applied indexes.

use std::collections::VecDeque;

/// Each member has a hash at each multiple of this.
pub(crate) const INTERVAL_ENTRIES: u64 = 1_024;
/// Hashes kept of the newest batches, and as many of the newest multiples; older ones are forgotten.
pub(crate) const KEPT_MAX: usize = 64;

#[derive(Default)]
pub struct HashHistory {
    newest: VecDeque<(u64, u64)>,
    multiples: VecDeque<(u64, u64)>,
}

impl HashHistory {
    pub(crate) fn note(&mut self, index: u64, hash: u64) {
        let keep = |list: &mut VecDeque<(u64, u64)>| {
            if list.back().is_some_and(|(last, _)| *last >= index) {
                return;
            }
            if list.len() == KEPT_MAX {
                list.pop_front();
            }
            list.push_back((index, hash));
        };
        keep(&mut self.newest);
        if index.is_multiple_of(INTERVAL_ENTRIES) {
            keep(&mut self.multiples);
        }
    }

    /// The state was replaced.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Oldest first.
    pub(crate) fn all(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<_> = self.newest.iter().chain(&self.multiples).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_the_multiples_are_kept() {
        let mut history = HashHistory::default();
        for index in 1..=200 * INTERVAL_ENTRIES {
            history.note(index, index + 1);
        }
        let all = history.all();
        assert_eq!(all.len(), 2 * KEPT_MAX - 1, "the last index is both");
        assert!(all.contains(&(137 * INTERVAL_ENTRIES, 137 * INTERVAL_ENTRIES + 1)));
        assert!(all.is_sorted());
        history.note(5, 5);
        assert!(!history.all().contains(&(5, 5)), "only forwards");
    }
}
