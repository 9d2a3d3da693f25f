use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Direction, EngineError, Page, RangeRequest, Snapshot, PAGE_BYTES_MAX};

use crate::{
    index::{rows, Version},
    recent::{Note, Recent},
    record::{self, Revision},
};

type Written = BTreeMap<Bytes, Option<Bytes>>;

/// Writes that wait for their batch, over the snapshot that they will change: what is read here is what the
/// engine will hold. Reads within a batch of entries so are the same as those of everyone else.
pub struct Staged {
    base: Arc<dyn Snapshot>,
    /// By column: the new value, or `None` for a deletion.
    written: [Written; Column::ALL.len()],
    /// What is known of the base.
    recent: Arc<Recent>,
}

impl Staged {
    pub fn new(base: Arc<dyn Snapshot>) -> Self {
        Self::with_recent(base, Arc::default())
    }

    /// `recent` is what is known of the base.
    pub fn with_recent(base: Arc<dyn Snapshot>, recent: Arc<Recent>) -> Self {
        Self { base, written: Default::default(), recent }
    }

    pub fn put(&mut self, column: Column, key: Bytes, value: Bytes) {
        self.written[column as usize].insert(key, Some(value));
    }

    pub fn delete(&mut self, column: Column, key: Bytes) {
        self.written[column as usize].insert(key, None);
    }

    /// Lets `recent` know what is about to be written.
    pub fn note(&self, recent: &Recent) {
        let rows = self.written[Column::Index as usize].iter().filter(|(row, _)| rows::is_current(row));
        for (row, version) in rows {
            let record = version.as_ref().and_then(|version| self.record(row, version));
            recent.note(&Note { row, version: version.as_deref(), record });
        }
    }

    /// The record that is written for this version in the row of a key.
    fn record(&self, row: &[u8], version: &[u8]) -> Option<(Revision, &[u8])> {
        let at = Version::decode(version).ok()?.at;
        let key = record::revision_key(*row.first()?, at);
        let record = self.written[Column::Revisions as usize].get(&key)?.as_deref()?;
        Some((at, record))
    }

    /// One write for each key, whatever happened to it in between.
    pub fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        for (column, written) in Column::ALL.into_iter().zip(self.written) {
            for (key, value) in written {
                match value {
                    Some(value) => batch.put(column, key, value),
                    None => batch.delete(column, key),
                }
            }
        }
        batch
    }

    /// Lays the writes within the page over it. A page that is not the last one ends with its last pair.
    fn merge(&self, request: &RangeRequest, base: Page) -> Page {
        let ascending = request.direction == Direction::Ascending;
        let mut start = Bound::Included(request.start.clone());
        let mut end = request.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        if let Some((last, _)) = base.pairs.last().filter(|_| base.more) {
            let reached = Bound::Included(last.clone());
            if ascending {
                end = reached;
            } else {
                start = reached;
            }
        }
        let mut merged: BTreeMap<Bytes, Bytes> = base.pairs.into_iter().collect();
        for (key, value) in self.written[request.column as usize].range((start, end)) {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        if ascending {
            bounded(merged.into_iter(), request.limit, base.more)
        } else {
            bounded(merged.into_iter().rev(), request.limit, base.more)
        }
    }
}

/// A page of `pairs`; `more` is whether there are others behind them.
fn bounded(pairs: impl Iterator<Item = (Bytes, Bytes)>, limit: usize, more: bool) -> Page {
    let mut page = Page { pairs: Vec::new(), more };
    let mut bytes = 0;
    for (key, value) in pairs {
        if page.pairs.len() >= limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        bytes += key.len() + value.len();
        page.pairs.push((key, value));
    }
    page
}

impl Snapshot for Staged {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.written[column as usize].get(key) {
            Some(value) => Ok(value.clone()),
            None => match (column == Column::Index).then(|| self.recent.row(key)).flatten() {
                Some(value) => Ok(Some(value)),
                None => self.base.get(column, key),
            },
        }
    }

    fn range(&self, request: &RangeRequest) -> Result<Page, EngineError> {
        let mut request = request.clone();
        if self.written[request.column as usize].is_empty()
            || request.limit == 0
            || request.end.as_ref().is_some_and(|end| *end <= request.start)
        {
            return self.base.range(&request);
        }
        loop {
            let base = self.base.range(&request)?;
            let (reached, more) = (base.pairs.last().map(|(key, _)| key.clone()), base.more);
            let page = self.merge(&request, base);
            // A page that was deleted whole says nothing: the next one does.
            match reached {
                Some(reached) if more && page.pairs.is_empty() => match request.direction {
                    Direction::Ascending => request.start = crate::load::after(&reached),
                    Direction::Descending => request.end = Some(reached),
                },
                _ => return Ok(page),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use keelstone_engine::{Engine, MemEngine};
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Bytes> {
        (0..12u8).prop_map(|key| Bytes::from(vec![key]))
    }

    fn writes() -> impl Strategy<Value = Vec<(Bytes, Option<Bytes>)>> {
        proptest::collection::vec((key(), proptest::option::of(key())), 0..12)
    }

    proptest! {
        #[test]
        fn staged_writes_read_as_written_ones(
            before in writes(),
            after in writes(),
            start in key(),
            end in proptest::option::of(key()),
            limit in 1..6usize,
            ascending in any::<bool>(),
        ) {
            let engine = MemEngine::volatile();
            let batch = |writes: &[(Bytes, Option<Bytes>)]| {
                let mut batch = Batch::default();
                for (key, value) in writes {
                    match value {
                        Some(value) => batch.put(Column::Index, key.clone(), value.clone()),
                        None => batch.delete(Column::Index, key.clone()),
                    }
                }
                batch
            };
            engine.write(batch(&before)).unwrap();
            let mut staged = Staged::new(engine.snapshot().unwrap());
            for (key, value) in after {
                match value {
                    Some(value) => staged.put(Column::Index, key, value),
                    None => staged.delete(Column::Index, key),
                }
            }
            let direction = if ascending { Direction::Ascending } else { Direction::Descending };
            let whole = RangeRequest { column: Column::Index, start, end, direction, limit: 100 };
            let mut request = RangeRequest { limit, ..whole.clone() };
            let mut found = Vec::new();
            loop {
                let page = staged.range(&request).unwrap();
                prop_assert!(page.pairs.len() <= limit);
                found.extend(page.pairs);
                let Some((last, _)) = found.last().filter(|_| page.more) else { break };
                if ascending {
                    request.start = crate::load::after(last);
                } else {
                    request.end = Some(last.clone());
                }
            }
            for (key, value) in &found {
                prop_assert_eq!(&staged.get(Column::Index, key).unwrap(), &Some(value.clone()));
            }
            engine.write(staged.into_batch()).unwrap();
            prop_assert_eq!(found, engine.range(&whole).unwrap().pairs);
        }
    }
}
