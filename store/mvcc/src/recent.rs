//! The index rows of keys that were written lately. A write needs the version before it, and what was written is
//! mostly written again: finding that version here costs a tenth of searching the engine for it.

use bytes::Bytes;

use crate::{constants::RECENT_ROWS_MAX, view::View};

/// Rows as the engine holds them, the same state that they were noted for. Each has one place, by its hash, and
/// whoever comes later takes it. With four places:
///
/// ```text
/// note a, b     - a b -      (a hashes to 1, b to 2)
/// note c        - c b -      (c hashes to 1 too: a is forgotten)
/// ```
#[derive(Default)]
pub struct Recent {
    /// Empty, or [`RECENT_ROWS_MAX`] places.
    places: Vec<Option<(Bytes, Bytes)>>,
    /// The state whose rows these are: its generation and the index after the last applied entry.
    state: (u8, u64),
}

/// FNV-1a, folded: rows that differ in their last bytes alone get places far apart.
fn place(row: &[u8]) -> usize {
    let hash = row
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    ((hash ^ (hash >> 32)) as usize) % RECENT_ROWS_MAX
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
        let (known, value) = self.places.get(place(row))?.as_ref()?;
        (known == row).then_some(value)
    }

    /// A row got this value, or was deleted.
    pub fn note(&mut self, row: Bytes, value: Option<Bytes>) {
        if self.places.is_empty() {
            self.places.resize(RECENT_ROWS_MAX, None);
        }
        let place = &mut self.places[place(&row)];
        match value {
            Some(value) => *place = Some((row, value)),
            None if place.as_ref().is_some_and(|(known, _)| *known == row) => *place = None,
            None => {}
        }
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

    /// Two rows with one place.
    fn rivals() -> (Bytes, Bytes) {
        let rival = (1..).find(|n| place(&row(*n)) == place(&row(0))).expect("there are fewer places than rows");
        (row(0), row(rival))
    }

    #[test]
    fn it_knows_the_newest_value_of_what_was_written_lately_and_no_more() {
        let mut recent = Recent::default();
        for n in 0..3 * RECENT_ROWS_MAX {
            recent.note(row(n), Some(row(n + 1)));
            assert_eq!(recent.get(&row(n)), Some(&row(n + 1)));
            assert_eq!(recent.places.len(), RECENT_ROWS_MAX);
        }
        recent.note(row(7), Some(row(1)));
        recent.note(row(7), Some(row(2)));
        assert_eq!(recent.get(&row(7)), Some(&row(2)), "written again");
        recent.note(row(7), None);
        assert_eq!(recent.get(&row(7)), None);
    }

    #[test]
    fn a_row_never_has_the_value_of_its_rival() {
        let (a, b) = rivals();
        let mut recent = Recent::default();
        recent.note(a.clone(), Some(row(1)));
        assert_eq!(recent.get(&b), None);
        recent.note(b.clone(), None);
        assert_eq!(recent.get(&a), Some(&row(1)), "the deletion was of another row");
        recent.note(b.clone(), Some(row(2)));
        assert_eq!((recent.get(&a), recent.get(&b)), (None, Some(&row(2))));
    }
}
