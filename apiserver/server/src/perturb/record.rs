use std::collections::VecDeque;

use serde::Serialize;

use super::knowledge::View;
use crate::constants::{MISSED_SHOWN_MAX, WRITE_RECORDS_MAX};

/// One write, and what its client had not been sent when it made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WriteRecord {
    pub actor: String,
    pub verb: String,
    pub resource: String,
    pub key: String,
    /// The revision at which the write was made.
    pub revision: i64,
    /// How far each view of the client was when its request came.
    pub frontiers: Vec<(View, i64)>,
    /// Changes in its views before its write that it had not been sent, the oldest first.
    pub missed: Vec<Missed>,
    /// All of them; [`WriteRecord::missed`] holds the first [`MISSED_SHOWN_MAX`].
    pub missed_count: usize,
    /// One of them changed the very object that was written.
    pub own_object_missed: bool,
    /// A view was so old that the changes since are compacted, and not counted.
    pub history_gone: bool,
}

/// A change that a client did not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missed {
    pub resource: String,
    pub key: String,
    pub revision: i64,
}

impl WriteRecord {
    /// Whether the write was made on stale knowledge.
    pub fn is_stale(&self) -> bool {
        self.missed_count > 0 || self.history_gone
    }

    pub fn miss(&mut self, resource: &str, key: &str, revision: i64) {
        self.missed_count += 1;
        self.own_object_missed |= resource == self.resource && key == self.key;
        if self.missed.len() < MISSED_SHOWN_MAX {
            self.missed.push(Missed { resource: resource.into(), key: key.into(), revision });
        }
    }
}

/// The newest writes of those who are observed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Writes since the start, and those of them on stale knowledge.
    pub writes: u64,
    pub stale_writes: u64,
    pub records: VecDeque<WriteRecord>,
}

impl Report {
    pub fn add(&mut self, record: WriteRecord) {
        self.writes += 1;
        self.stale_writes += u64::from(record.is_stale());
        self.records.push_back(record);
        if self.records.len() > WRITE_RECORDS_MAX {
            self.records.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(revision: i64) -> WriteRecord {
        WriteRecord {
            actor: "ann".into(),
            verb: "update".into(),
            resource: "pods".into(),
            key: "ns/a".into(),
            revision,
            frontiers: Vec::new(),
            missed: Vec::new(),
            missed_count: 0,
            own_object_missed: false,
            history_gone: false,
        }
    }

    #[test]
    fn all_is_counted_and_the_newest_is_kept() {
        let mut report = Report::default();
        for revision in 0..=i64::try_from(WRITE_RECORDS_MAX).unwrap() {
            report.add(record(revision));
        }
        assert_eq!((report.records.len(), report.records[0].revision), (WRITE_RECORDS_MAX, 1));
        let mut stale = record(9);
        for revision in 0..=i64::try_from(MISSED_SHOWN_MAX).unwrap() {
            stale.miss("pods", "ns/b", revision);
        }
        assert_eq!((stale.missed.len(), stale.missed_count), (MISSED_SHOWN_MAX, MISSED_SHOWN_MAX + 1));
        assert!(!stale.own_object_missed);
        stale.miss("pods", "ns/a", 8);
        assert!(stale.own_object_missed);
        report.add(stale);
        assert_eq!((report.writes, report.stale_writes), (WRITE_RECORDS_MAX as u64 + 2, 1));
    }
}
