//! What was written lately, in memory: index rows of keys, and their values if those are small. A write needs the
//! version before it, and what was written is mostly written and read again: finding it here costs a tenth of
//! searching the engine.

use std::sync::{
    atomic::{AtomicUsize, Ordering::Relaxed},
    Mutex, MutexGuard, OnceLock, PoisonError,
};

use bytes::Bytes;

use crate::{
    constants::{RECENT_BYTES_MAX, RECENT_RECORD_BYTES_MAX, RECENT_ROWS_MAX},
    index::Version,
    record::Revision,
};

/// A row of an existing key that was written.
pub struct Note<'a> {
    pub row: &'a [u8],
    /// The version in it; `None` if the key was deleted.
    pub version: Option<&'a [u8]>,
    /// The key-value of that version.
    pub record: Option<(Revision, &'a [u8])>,
}

/// The newest versions of some keys, shared by one writer and all readers. Each row has one place, by its hash, and
/// whoever comes later takes it. With four places:
///
/// ```text
/// note a, b     - a b -      (a hashes to 1, b to 2)
/// note c        - c b -      (c hashes to 1 too: a is forgotten)
/// ```
///
/// A row is noted before the state that has it is shown to readers, so that a reader whose state is at least as new as
/// what it finds here has found the newest version; what is newer than its state does not count for it.
#[derive(Default)]
pub struct Recent {
    /// [`RECENT_ROWS_MAX`] places, once something was noted.
    places: OnceLock<Box<[Mutex<Place>]>>,
    /// Bytes in all places. Only the writer changes it.
    bytes: AtomicUsize,
}

/// Row, version and record lie one behind the other in a buffer that is used again: copying them costs less than
/// keeping what they came in. Nothing is noted while the row is empty, which no row is.
#[derive(Default)]
struct Place {
    bytes: Vec<u8>,
    row_end: usize,
    version_end: usize,
    /// What the record is of; without one, nothing is behind the version.
    at: Revision,
}

impl Place {
    fn is(&self, row: &[u8]) -> bool {
        !row.is_empty() && self.bytes.get(..self.row_end) == Some(row)
    }

    fn set(&mut self, row: &[u8], version: &[u8], record: Option<(Revision, &[u8])>) {
        let (at, record) = record.unwrap_or_default();
        let bytes = row.len() + version.len() + record.len();
        self.bytes.clear();
        // A buffer that held a much larger record gives its room back.
        self.bytes.shrink_to(2 * bytes);
        self.bytes.reserve_exact(bytes);
        for part in [row, version, record] {
            self.bytes.extend_from_slice(part);
        }
        (self.row_end, self.version_end, self.at) = (row.len(), row.len() + version.len(), at);
    }

    fn clear(&mut self) {
        self.bytes = Vec::new();
        self.row_end = 0;
    }
}

impl Recent {
    fn place(&self, row: &[u8]) -> Option<MutexGuard<'_, Place>> {
        let place = &self.places.get()?[crc32c::crc32c(row) as usize % RECENT_ROWS_MAX];
        Some(lock(place))
    }

    /// The place that has this row.
    fn known(&self, row: &[u8]) -> Option<MutexGuard<'_, Place>> {
        self.place(row).filter(|place| place.is(row))
    }

    /// The index row that the newest state has.
    pub fn row(&self, row: &[u8]) -> Option<Bytes> {
        let place = self.known(row)?;
        Some(Bytes::copy_from_slice(&place.bytes[place.row_end..place.version_end]))
    }

    /// The version in that row, if the state at `revision` has it too.
    pub fn version(&self, row: &[u8], revision: i64) -> Option<Version> {
        let place = self.known(row)?;
        let version = Version::decode(&place.bytes[place.row_end..place.version_end]).ok()?;
        (version.at.main <= revision).then_some(version)
    }

    /// The record of the row's key that was written at `at`.
    pub fn record(&self, row: &[u8], at: Revision) -> Option<Bytes> {
        let place = self.known(row).filter(|place| place.at == at)?;
        let record = &place.bytes[place.version_end..];
        (!record.is_empty()).then(|| Bytes::copy_from_slice(record))
    }

    /// Remembers what is being written, and no longer what is being deleted.
    pub fn note(&self, note: &Note<'_>) {
        self.places.get_or_init(|| (0..RECENT_ROWS_MAX).map(|_| Mutex::default()).collect());
        let Some(mut place) = self.place(note.row) else { return };
        let others = self.bytes.load(Relaxed).saturating_sub(place.bytes.capacity());
        match note.version {
            Some(version) => {
                let fits = |bytes| bytes <= RECENT_RECORD_BYTES_MAX && others + bytes <= RECENT_BYTES_MAX;
                place.set(note.row, version, note.record.filter(|(_, record)| fits(record.len())));
            }
            None if place.is(note.row) => place.clear(),
            None => {}
        }
        self.bytes.store(others + place.bytes.capacity(), Relaxed);
    }

    /// Forgets everything, because what was noted was not written.
    pub fn forget(&self) {
        for place in self.places.get().into_iter().flatten() {
            lock(place).clear();
        }
        self.bytes.store(0, Relaxed);
    }
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    // Nothing that is done under the lock panics.
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize) -> Bytes {
        n.to_be_bytes().to_vec().into()
    }

    fn at(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    fn version(main: i64) -> Option<Bytes> {
        Some(Version { at: at(main), version: 1, ..Version::default() }.encode())
    }

    fn note(recent: &Recent, row: &Bytes, version: Option<Bytes>, record: Option<(Revision, Bytes)>) {
        let record = record.as_ref().map(|(at, record)| (*at, &record[..]));
        recent.note(&Note { row, version: version.as_deref(), record });
    }

    /// Two rows with one place.
    fn rivals() -> (Bytes, Bytes) {
        let place = |n| crc32c::crc32c(&row(n)) as usize % RECENT_ROWS_MAX;
        let rival = (1..).find(|n| place(*n) == place(0)).expect("there are fewer places than rows");
        (row(0), row(rival))
    }

    #[test]
    fn it_knows_the_newest_value_of_what_was_written_lately_and_no_more() {
        let recent = Recent::default();
        assert_eq!(recent.row(&row(0)), None);
        for n in 0..3 * RECENT_ROWS_MAX {
            note(&recent, &row(n), Some(row(n + 1)), None);
            assert_eq!(recent.row(&row(n)), Some(row(n + 1)));
        }
        assert_eq!(recent.places.get().map(|places| places.len()), Some(RECENT_ROWS_MAX));
        note(&recent, &row(7), Some(row(1)), None);
        note(&recent, &row(7), Some(row(2)), None);
        assert_eq!(recent.row(&row(7)), Some(row(2)), "written again");
        note(&recent, &row(7), None, None);
        assert_eq!(recent.row(&row(7)), None);
    }

    #[test]
    fn a_row_never_has_the_value_of_its_rival() {
        let (a, b) = rivals();
        let recent = Recent::default();
        note(&recent, &a, Some(row(1)), None);
        assert_eq!(recent.row(&b), None);
        note(&recent, &b, None, None);
        assert_eq!(recent.row(&a), Some(row(1)), "the deletion was of another row");
        note(&recent, &b, Some(row(2)), None);
        assert_eq!((recent.row(&a), recent.row(&b)), (None, Some(row(2))));
    }

    #[test]
    fn a_reader_of_an_older_state_is_told_nothing_newer() {
        let recent = Recent::default();
        note(&recent, &row(1), version(5), Some((at(5), row(50))));
        assert_eq!(recent.version(&row(1), 4), None);
        assert_eq!(recent.version(&row(1), 5).map(|version| version.at), Some(at(5)));
        assert_eq!(recent.record(&row(1), at(5)), Some(row(50)));
        note(&recent, &row(1), version(6), Some((at(6), row(60))));
        assert_eq!((recent.version(&row(1), 5), recent.record(&row(1), at(5))), (None, None));
        assert_eq!(recent.record(&row(1), at(6)), Some(row(60)));
    }

    #[test]
    fn it_takes_bounded_memory() {
        let recent = Recent::default();
        let large = vec![0; RECENT_RECORD_BYTES_MAX];
        let kept = |n: usize| recent.record(&row(n), at(5)).is_some();
        let count = 2 * RECENT_BYTES_MAX / RECENT_RECORD_BYTES_MAX;
        for n in 0..count {
            note(&recent, &row(n), version(5), Some((at(5), large.clone().into())));
        }
        let bytes = |recent: &Recent| {
            let places = recent.places.get().into_iter().flatten();
            places.map(|place| lock(place).bytes.capacity()).sum::<usize>()
        };
        assert_eq!(bytes(&recent), recent.bytes.load(Relaxed));
        assert!(bytes(&recent) < RECENT_BYTES_MAX + RECENT_ROWS_MAX * 64);
        assert!(kept(0) && !kept(count - 1));
        assert_eq!(recent.version(&row(count - 1), 5).map(|version| version.at), Some(at(5)), "there is room for it");
        for n in 0..count {
            note(&recent, &row(n), version(6), Some((at(6), row(n))));
        }
        assert_eq!(bytes(&recent), recent.bytes.load(Relaxed));
        assert!(bytes(&recent) < RECENT_ROWS_MAX * 128, "room is given back");
    }

    #[test]
    fn what_was_not_written_is_forgotten() {
        let recent = Recent::default();
        recent.forget();
        note(&recent, &row(1), Some(row(2)), None);
        recent.forget();
        assert_eq!(recent.row(&row(1)), None);
    }

    #[test]
    fn a_large_record_is_not_kept() {
        let recent = Recent::default();
        for (bytes, kept) in [(RECENT_RECORD_BYTES_MAX, true), (RECENT_RECORD_BYTES_MAX + 1, false)] {
            note(&recent, &row(1), version(5), Some((at(5), vec![0; bytes].into())));
            assert_eq!(recent.record(&row(1), at(5)).is_some(), kept);
            assert!(recent.version(&row(1), 5).is_some());
        }
    }
}
