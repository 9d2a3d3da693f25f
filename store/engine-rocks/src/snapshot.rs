use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::{Column, EngineError, Page, RangeRequest, Snapshot};
use rocksdb::{ReadOptions, SnapshotWithThreadMode, DB};

use crate::engine::{column_handle, error, read_page};

type DbSnapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell!(
    struct OwnedSnapshot {
        owner: Arc<DB>,
        #[not_covariant]
        dependent: DbSnapshot,
    }
);

/// A RocksDB snapshot that keeps its database open.
pub struct RocksSnapshot(OwnedSnapshot);

impl RocksSnapshot {
    pub fn new(db: Arc<DB>) -> Self {
        Self(OwnedSnapshot::new(db, |db| db.snapshot()))
    }
}

impl Snapshot for RocksSnapshot {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.0.with_dependent(|db, snapshot| {
            let value = snapshot.get_pinned_cf(column_handle(db, column)?, key).map_err(error)?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError> {
        self.0.with_dependent(|db, snapshot| {
            let handle = column_handle(db, request.column)?;
            read_page(request, |options: ReadOptions| snapshot.raw_iterator_cf_opt(handle, options))
        })
    }

    fn get_many(&self, column: Column, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.0.with_dependent(|db, snapshot| {
            let mut options = ReadOptions::default();
            options.set_snapshot(snapshot);
            let found = db.batched_multi_get_cf_opt(column_handle(db, column)?, keys, false, &options);
            let copy = |value: rocksdb::DBPinnableSlice<'_>| Bytes::copy_from_slice(&value);
            found.into_iter().map(|value| Ok(value.map_err(error)?.map(copy))).collect()
        })
    }

    fn count(&self, column: Column, start: &Bytes, end: &Bytes) -> Result<u64, EngineError> {
        if start >= end {
            return Ok(0);
        }
        self.0.with_dependent(|db, snapshot| {
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(&start[..]);
            options.set_iterate_upper_bound(&end[..]);
            let mut iterator = snapshot.raw_iterator_cf_opt(column_handle(db, column)?, options);
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
