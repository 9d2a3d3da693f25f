use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;

use crate::{Batch, Column, Direction, EngineError, Page, RangeRequest, Snapshot, Write, PAGE_BYTES_MAX};

/// All columns at one batch boundary. Cloning is O(1): maps are shared until one side changes.
#[derive(Clone, Default)]
pub struct Columns {
    maps: [OrdMap<Bytes, Bytes>; Column::ALL.len()],
    /// Bytes of all keys and values.
    pub live_bytes: u64,
}

impl Columns {
    pub fn map(&self, column: Column) -> &OrdMap<Bytes, Bytes> {
        &self.maps[column as usize]
    }

    pub fn apply(&mut self, batch: &Batch) {
        for write in &batch.writes {
            match write {
                Write::Put { column, key, value } => self.put(*column, key, value),
                Write::Delete { column, key } => self.delete(*column, key),
                Write::DeleteRange { column, start, end } => self.delete_range(*column, start, end),
            }
        }
    }

    fn put(&mut self, column: Column, key: &Bytes, value: &Bytes) {
        self.live_bytes += pair_bytes(key, value);
        if let Some(old) = self.maps[column as usize].insert(key.clone(), value.clone()) {
            self.live_bytes -= pair_bytes(key, &old);
        }
    }

    fn delete(&mut self, column: Column, key: &Bytes) {
        if let Some(old) = self.maps[column as usize].remove(key) {
            self.live_bytes -= pair_bytes(key, &old);
        }
    }

    fn delete_range(&mut self, column: Column, start: &Bytes, end: &Bytes) {
        if start >= end {
            return;
        }
        let bounds = (Bound::Included(start), Bound::Excluded(end));
        let keys: Vec<Bytes> = self.map(column).range::<_, Bytes>(bounds).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.delete(column, &key);
        }
    }
}

fn pair_bytes(key: &Bytes, value: &Bytes) -> u64 {
    (key.len() + value.len()) as u64
}

impl Snapshot for Columns {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.map(column).get(key).cloned())
    }

    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError> {
        let end = match &request.end {
            Some(end) if *end <= request.start => return Ok(Page::default()),
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        let pairs = self.map(request.column).range::<_, Bytes>((Bound::Included(&request.start), end));
        Ok(match request.direction {
            Direction::Ascending => fill(pairs, request.limit),
            Direction::Descending => fill(pairs.rev(), request.limit),
        })
    }
}

fn fill<'a>(pairs: impl Iterator<Item = (&'a Bytes, &'a Bytes)>, limit: usize) -> Page {
    let mut page = Page::default();
    let mut bytes = 0;
    for (key, value) in pairs {
        if page.pairs.len() >= limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        bytes += key.len() + value.len();
        page.pairs.push((key.clone(), value.clone()));
    }
    page
}
