use std::sync::Arc;

use bytes::Bytes;

/// A keyspace of its own ("column family"). All columns are flushed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Applied index, membership, revisions, format version.
    Meta,
    /// Revision (big endian) to key-value.
    Revisions,
    /// What finds revisions by key, by lease and by time.
    Index,
    /// Leases and what hangs on them.
    Leases,
    /// Users, roles, alarms.
    Auth,
}

impl Column {
    pub const ALL: [Self; 5] = [Self::Meta, Self::Revisions, Self::Index, Self::Leases, Self::Auth];

    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Revisions => "revisions",
            Self::Index => "index",
            Self::Leases => "leases",
            Self::Auth => "auth",
        }
    }
}

/// Writes that happen together or not at all, in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub writes: Vec<Write>,
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put {
        column: Column,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        column: Column,
        key: Bytes,
    },
    /// Deletes `start <= key < end`.
    DeleteRange {
        column: Column,
        start: Bytes,
        end: Bytes,
    },
}

impl Batch {
    pub fn put(&mut self, column: Column, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.writes.push(Write::Put { column, key: key.into(), value: value.into() });
    }

    pub fn delete(&mut self, column: Column, key: impl Into<Bytes>) {
        self.writes.push(Write::Delete { column, key: key.into() });
    }

    pub fn delete_range(&mut self, column: Column, start: impl Into<Bytes>, end: impl Into<Bytes>) {
        self.writes.push(Write::DeleteRange { column, start: start.into(), end: end.into() });
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// A range of one column: `start <= key < end`; no `end` means to the last key.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    pub column: Column,
    pub start: Bytes,
    pub end: Option<Bytes>,
    pub direction: Direction,
    /// At most so many pairs; a page never holds more than [`crate::PAGE_BYTES_MAX`] bytes plus one pair.
    pub limit: usize,
}

/// Pairs in the asked order, and whether the range has more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub pairs: Vec<(Bytes, Bytes)>,
    pub more: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("engine I/O failed")]
    Io(#[source] std::io::Error),
    #[error("engine data is corrupt: {0}")]
    Corrupt(String),
    #[error("engine failed: {0}")]
    Other(String),
}

/// A consistent view of all columns at one moment. Lives as long as it is held.
pub trait Snapshot: Send + Sync {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError>;

    /// The values of several keys, in their order.
    fn get_many(&self, column: Column, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, EngineError> {
        keys.iter().map(|key| self.get(column, key)).collect()
    }

    /// How many keys lie in `start <= key < end`. Looks at each of them.
    fn count(&self, column: Column, start: &Bytes, end: &Bytes) -> Result<u64, EngineError> {
        let mut request = RangeRequest {
            column,
            start: start.clone(),
            end: Some(end.clone()),
            direction: Direction::Ascending,
            limit: usize::MAX,
        };
        let mut count = 0;
        loop {
            let page = self.range(&request)?;
            count += page.pairs.len() as u64;
            match page.pairs.last() {
                Some((last, _)) if page.more => request.start = [last, &[0][..]].concat().into(),
                _ => return Ok(count),
            }
        }
    }
}

/// An ordered key-value store with atomic batches over all columns. Calls block.
///
/// Durability: a batch is visible at once, but durable only once a later [`Engine::flush`] returned (or the
/// engine flushed by itself). After a crash the engine is at a batch boundary at or after the last flush,
/// the same for all columns. Passed by `conformance`, whatever the implementation.
pub trait Engine: Send + Sync + 'static {
    fn write(&self, batch: Batch) -> Result<(), EngineError>;
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError>;
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, EngineError>;
    /// Makes every batch written before the call durable, in all columns.
    fn flush(&self) -> Result<(), EngineError>;
    /// A value of [`Column::Meta`] as it would be found after a crash now.
    fn durable_meta(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    /// Gives back the space of what was removed, beside reads and writes. May take long.
    fn reclaim(&self) -> Result<(), EngineError> {
        Ok(())
    }
    /// Bytes on disk (roughly) and bytes of live data (roughly).
    fn size_bytes(&self) -> Result<(u64, u64), EngineError>;
}
