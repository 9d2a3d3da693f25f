use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use keelstone_engine::{
    Batch, Column, Direction, Engine, EngineError, Page, RangeRequest, Snapshot, Write, PAGE_BYTES_MAX,
};
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DBRawIteratorWithThreadMode, ErrorKind, FlushOptions,
    ReadOptions, WriteBatch, WriteOptions, DB,
};

use crate::{constants::SPACE_POLL_INTERVAL, snapshot::RocksSnapshot, RocksOptions};

/// An [`Engine`] on RocksDB.
pub struct RocksEngine {
    db: Arc<DB>,
    write_options: WriteOptions,
    /// The Meta column as it was when the last finished flush began. RocksDB may have flushed more by itself;
    /// this is what is certain.
    durable_meta: Mutex<BTreeMap<Bytes, Bytes>>,
    flushing: Mutex<()>,
}

impl RocksEngine {
    /// Opens or creates the database in `dir`, whose parent exists. Blocks.
    ///
    /// # Errors
    /// Another process has it open, it is damaged, or the disk fails.
    pub fn open(dir: impl AsRef<Path>, options: RocksOptions) -> Result<Self, EngineError> {
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let columns = Column::ALL.map(|c| ColumnFamilyDescriptor::new(c.name(), options.column(&cache)));
        let db = DB::open_cf_descriptors(&options.database()?, dir, columns).map_err(error)?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        let this = Self {
            db: Arc::new(db),
            write_options,
            durable_meta: Mutex::new(BTreeMap::new()),
            flushing: Mutex::new(()),
        };
        *lock(&this.durable_meta) = this.meta()?;
        Ok(this)
    }

    /// The whole Meta column: a handful of small records.
    fn meta(&self) -> Result<BTreeMap<Bytes, Bytes>, EngineError> {
        let mut iterator = self.db.raw_iterator_cf(column_handle(&self.db, Column::Meta)?);
        iterator.seek_to_first();
        let mut meta = BTreeMap::new();
        while let Some((key, value)) = iterator.item() {
            meta.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            iterator.next();
        }
        iterator.status().map_err(error)?;
        Ok(meta)
    }

    fn writes(&self, batch: &Batch) -> Result<WriteBatch, EngineError> {
        let mut writes = WriteBatch::default();
        for write in &batch.writes {
            match write {
                Write::Put { column, key, value } => writes.put_cf(column_handle(&self.db, *column)?, key, value),
                Write::Delete { column, key } => writes.delete_cf(column_handle(&self.db, *column)?, key),
                // RocksDB refuses a range that ends before it starts.
                Write::DeleteRange { start, end, .. } if start >= end => {}
                Write::DeleteRange { column, start, end } => {
                    writes.delete_range_cf(column_handle(&self.db, *column)?, start, end);
                }
            }
        }
        Ok(writes)
    }

    /// Sum of a property over all columns.
    fn property(&self, name: &str) -> Result<u64, EngineError> {
        Column::ALL.into_iter().try_fold(0, |sum, column| {
            let handle = column_handle(&self.db, column)?;
            Ok(sum + self.db.property_int_value_cf(handle, name).map_err(error)?.unwrap_or(0))
        })
    }
}

#[allow(clippy::disallowed_methods, reason = "whoever writes has a thread for work that blocks")]
fn wait_for_space() {
    std::thread::sleep(SPACE_POLL_INTERVAL);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside changes by one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn column_handle(db: &DB, column: Column) -> Result<&ColumnFamily, EngineError> {
    db.cf_handle(column.name())
        .ok_or_else(|| EngineError::Corrupt(format!("column family {} is missing", column.name())))
}

pub fn error(error: rocksdb::Error) -> EngineError {
    match error.kind() {
        ErrorKind::Corruption => EngineError::Corrupt(error.to_string()),
        // RocksDB tells this one by its text alone.
        ErrorKind::IOError if error.as_ref().contains("No space left on device") => {
            EngineError::Io(io::Error::new(io::ErrorKind::StorageFull, error))
        }
        ErrorKind::IOError => EngineError::Io(io::Error::other(error)),
        _ => EngineError::Other(error.to_string()),
    }
}

/// Reads one page with the iterator that `open` makes.
pub fn read_page<'a>(
    request: &RangeRequest,
    open: impl FnOnce(ReadOptions) -> DBRawIteratorWithThreadMode<'a, DB>,
) -> Result<Page, EngineError> {
    let mut page = Page::default();
    if request.end.as_ref().is_some_and(|end| *end <= request.start) {
        return Ok(page);
    }
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(&request.start[..]);
    if let Some(end) = &request.end {
        options.set_iterate_upper_bound(&end[..]);
    }
    let ascending = request.direction == Direction::Ascending;
    let mut iterator = open(options);
    if ascending {
        iterator.seek_to_first();
    } else {
        iterator.seek_to_last();
    }
    let mut bytes = 0;
    while let Some((key, value)) = iterator.item() {
        if page.pairs.len() >= request.limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            return Ok(page);
        }
        bytes += key.len() + value.len();
        page.pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if ascending {
            iterator.next();
        } else {
            iterator.prev();
        }
    }
    iterator.status().map_err(error)?;
    Ok(page)
}

impl Engine for RocksEngine {
    /// Waits while the file system has no space: RocksDB takes writes again once a flush has succeeded.
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let mut waits = false;
        loop {
            match self.db.write_opt(self.writes(&batch)?, &self.write_options).map_err(error) {
                Err(EngineError::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::warn!(%error, "the state's disk is full: writes wait for space");
                    }
                    wait_for_space();
                }
                result => {
                    if waits {
                        tracing::info!("the state's disk has space again");
                    }
                    return result;
                }
            }
        }
    }

    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.db.get_pinned_cf(column_handle(&self.db, column)?, key).map_err(error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError> {
        let handle = column_handle(&self.db, request.column)?;
        read_page(request, |options| self.db.raw_iterator_cf_opt(handle, options))
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, EngineError> {
        Ok(Arc::new(RocksSnapshot::new(Arc::clone(&self.db))))
    }

    fn flush(&self) -> Result<(), EngineError> {
        let _flushing = lock(&self.flushing);
        let meta = self.meta()?;
        let columns = Column::ALL.into_iter().map(|c| column_handle(&self.db, c)).collect::<Result<Vec<_>, _>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&columns, &options).map_err(error)?;
        *lock(&self.durable_meta) = meta;
        Ok(())
    }

    fn durable_meta(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(lock(&self.durable_meta).get(key).cloned())
    }

    fn reclaim(&self) -> Result<(), EngineError> {
        let mut options = CompactOptions::default();
        // Automatic compactions go on: without them writes would wait.
        options.set_exclusive_manual_compaction(false);
        for column in Column::ALL {
            let whole = (None::<&[u8]>, None::<&[u8]>);
            self.db.compact_range_cf_opt(column_handle(&self.db, column)?, whole.0, whole.1, &options);
        }
        Ok(())
    }

    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        let memory = self.property("rocksdb.cur-size-all-mem-tables")?;
        let on_disk = self.property("rocksdb.total-sst-files-size")?;
        let live = self.property("rocksdb.estimate-live-data-size")?;
        Ok((on_disk + memory, live + memory))
    }
}
