//! The index rows of keys that were written lately. A write needs the version before it, and what was written is
//! mostly written again: finding that version here costs a tenth of searching the engine for it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{constants::RECENT_KEYS_MAX, view::View};

/// Rows as the engine holds them, the same state that they were noted for. In two halves: when the younger one is
/// full, the older one is forgotten. With room for 2 rows in each:
///
/// ```text
/// note a, b     young a b | old -
/// note c        young c   | old a b
/// note a        young a c | old a b      b is forgotten with the next one
/// ```
#[derive(Default)]
pub struct Recent {
    young: BTreeMap<Bytes, Bytes>,
    old: BTreeMap<Bytes, Bytes>,
    /// The state whose rows these are: its generation and the index after the last applied entry.
    state: (u8, u64),
}

impl Recent {
    /// What is known about `view`'s rows: nothing if they were changed by another way than an apply.
    pub fn of(self, view: &View) -> Self {
        match self.state == state(view) {
            true => self,
            false => Self::default(),
        }
    }

    pub fn get(&self, row: &[u8]) -> Option<&Bytes> {
        self.young.get(row).or_else(|| self.old.get(row))
    }

    /// A row got this value, or was deleted.
    pub fn note(&mut self, row: Bytes, value: Option<Bytes>) {
        self.old.remove(&row);
        let Some(value) = value else {
            self.young.remove(&row);
            return;
        };
        if self.young.len() >= RECENT_KEYS_MAX / 2 && !self.young.contains_key(&row) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(row, value);
    }

    /// What was noted is now the state of `view`.
    pub fn settle(&mut self, view: &View) {
        self.state = state(view);
    }
}

fn state(view: &View) -> (u8, u64) {
    (view.generation, view.applied_next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize) -> Bytes {
        n.to_be_bytes().to_vec().into()
    }

    #[test]
    fn it_knows_the_newest_value_of_what_was_written_lately_and_no_more() {
        let mut recent = Recent::default();
        for n in 0..3 * RECENT_KEYS_MAX {
            recent.note(row(n), Some(row(n)));
            recent.note(row(1), Some(row(n)));
            assert!(recent.young.len() + recent.old.len() <= RECENT_KEYS_MAX);
        }
        let last = 3 * RECENT_KEYS_MAX - 1;
        assert_eq!(recent.get(&row(1)), Some(&row(last)), "written again and again");
        assert_eq!(recent.get(&row(last)), Some(&row(last)));
        assert_eq!(recent.get(&row(2)), None);
        for gone in [1, last, last - RECENT_KEYS_MAX / 2] {
            recent.note(row(gone), None);
            assert_eq!(recent.get(&row(gone)), None);
        }
    }
}
