use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::{Direction, RangeRequest};

use super::chunk::{Chunk, Pair};
use crate::{
    load,
    record::{self, StateRecord, DATA_COLUMNS, FORMAT_VERSION},
    view::View,
    Applied, MvccError,
};

/// A consistent view of the whole state, as it was when it was pinned.
pub struct Pinned {
    view: Arc<View>,
    sequence: u64,
    /// Column (a position in [`DATA_COLUMNS`]) and key to go on with; `None` after the last chunk.
    next: Option<(usize, Bytes)>,
}

impl Pinned {
    pub(crate) fn new(view: Arc<View>) -> Self {
        let start = record::generation_bounds(view.generation).0;
        Self { view, sequence: 0, next: Some((0, start)) }
    }

    /// How far the log was applied in this view.
    pub fn applied(&self) -> Applied {
        self.view.applied()
    }

    pub fn revision(&self) -> i64 {
        self.view.revision
    }

    /// The next chunk (versioned, checksummed, about 1 MiB); `None` after the last. Blocks.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, MvccError> {
        let Some((column, start)) = self.next.clone() else { return Ok(None) };
        let (first, end) = record::generation_bounds(self.view.generation);
        let request = RangeRequest {
            column: DATA_COLUMNS[column],
            start,
            end: Some(end),
            direction: Direction::Ascending,
            limit: usize::MAX,
        };
        let page = self.view.snapshot.range(&request)?;
        self.next = match page.pairs.last() {
            Some((last, _)) if page.more => Some((column, load::after(last))),
            _ if column + 1 < DATA_COLUMNS.len() => Some((column + 1, first)),
            _ => None,
        };
        let pair = |(key, value): (Bytes, Bytes)| Pair { column: column as u32, key: key.slice(1..), value };
        let chunk = Chunk {
            format_version: FORMAT_VERSION,
            sequence: self.sequence,
            state: if self.sequence == 0 { Some(self.state()?) } else { None },
            pairs: page.pairs.into_iter().map(pair).collect(),
            last: self.next.is_none(),
        };
        self.sequence += 1;
        Ok(Some(chunk.encode_checked()))
    }

    fn state(&self) -> Result<StateRecord, MvccError> {
        Ok(StateRecord { generation: 0, swept: load::swept(&*self.view.snapshot)?, ..self.view.record() })
    }
}
