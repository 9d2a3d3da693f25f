use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::{Column, EngineError, Page, RangeRequest, Snapshot};
use rocksdb::{ReadOptions, SnapshotWithThreadMode, DB};

use crate::engine::{column_handle, error, read_page};

/// A moment of the database, and the options to read it, made once for all reads.
struct Moment<'a> {
    options: ReadOptions,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

self_cell::self_cell!(
    struct OwnedMoment {
        owner: Arc<DB>,
        #[not_covariant]
        dependent: Moment,
    }
);

/// A RocksDB snapshot that keeps its database open.
pub struct RocksSnapshot(OwnedMoment);

impl RocksSnapshot {
    pub fn new(db: Arc<DB>) -> Self {
        Self(OwnedMoment::new(db, |db| {
            let snapshot = db.snapshot();
            let mut options = ReadOptions::default();
            options.set_snapshot(&snapshot);
            Moment { options, snapshot }
        }))
    }
}

impl Snapshot for RocksSnapshot {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.0.with_dependent(|db, moment| {
            let value = db.get_pinned_cf_opt(column_handle(db, column)?, key, &moment.options).map_err(error)?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError> {
        self.0.with_dependent(|db, moment| {
            let handle = column_handle(db, request.column)?;
            read_page(request, |options: ReadOptions| moment.snapshot.raw_iterator_cf_opt(handle, options))
        })
    }

    fn get_many(&self, column: Column, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
        // Preparing a batch costs more than a read.
        if let [key] = keys {
            return Ok(vec![self.get(column, key)?]);
        }
        self.0.with_dependent(|db, moment| {
            let found = db.batched_multi_get_cf_opt(column_handle(db, column)?, keys, false, &moment.options);
            let copy = |value: rocksdb::DBPinnableSlice<'_>| Bytes::copy_from_slice(&value);
            found.into_iter().map(|value| Ok(value.map_err(error)?.map(copy))).collect()
        })
    }

    fn count(&self, column: Column, start: &Bytes, end: &Bytes) -> Result<u64, EngineError> {
        if start >= end {
            return Ok(0);
        }
        self.0.with_dependent(|db, moment| {
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(&start[..]);
            options.set_iterate_upper_bound(&end[..]);
            let mut iterator = moment.snapshot.raw_iterator_cf_opt(column_handle(db, column)?, options);
            iterator.seek_to_first();
            let mut count = 0;
            while iterator.valid() {
                count += 1;
                iterator.next();
            }
            iterator.status().map_err(error)?;
            Ok(count)
        })
    }
}
