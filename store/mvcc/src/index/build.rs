//! Builds the index of data that has none: format 1 rebuilt it in memory at each start.

use bytes::Bytes;
use keelstone_engine::{Column, Engine};

use super::{Index, IndexWriter, KeyCounts, Version};
use crate::{constants::INDEX_BUILD_BATCH_ROWS, load, recent::Recent, record, staged::Staged, MvccError};

/// Writes the index of all revisions of a generation, in batches. What an attempt before left is removed. Blocks.
pub fn build(engine: &dyn Engine, generation: u8) -> Result<(), MvccError> {
    load::wipe_columns(engine, generation, &[Column::Index])?;
    let revisions = engine.snapshot()?;
    let mut builder = Builder { engine, generation, counts: KeyCounts::default(), staged: None, rows: 0 };
    load::for_each_pair(&*revisions, Column::Revisions, generation, |key, value| {
        let at = record::parse_revision_key(&key)?;
        let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let kv = record::decode_kv(value)?;
        builder.add(&kv.key, Version { at, create: kv.create_revision, version: kv.version, lease: kv.lease, bytes })
    })?;
    builder.write()
}

struct Builder<'a> {
    engine: &'a dyn Engine,
    generation: u8,
    counts: KeyCounts,
    staged: Option<Staged>,
    rows: usize,
}

impl Builder<'_> {
    fn add(&mut self, key: &Bytes, version: Version) -> Result<(), MvccError> {
        let staged = match &mut self.staged {
            Some(staged) => staged,
            none => none.insert(Staged::new(self.engine.snapshot()?)),
        };
        let at = version.at;
        let index = Index {
            rows: staged,
            counts: &self.counts,
            recent: &Recent::default(),
            is_staged: true,
            generation: self.generation,
            revision: at.main,
        };
        let prev = index.live(key)?;
        let mut writer = IndexWriter { staged, counts: &mut self.counts, generation: self.generation };
        match prev {
            Some(prev) if version.is_tombstone() => writer.delete(key, at, prev),
            // A deletion whose key is gone: compaction kept it for watches that start there.
            None if version.is_tombstone() => writer.lone_tombstone(key, at),
            prev => writer.put(key, version, prev)?,
        }
        self.rows += 1;
        if self.rows.is_multiple_of(INDEX_BUILD_BATCH_ROWS) {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), MvccError> {
        if let Some(staged) = self.staged.take() {
            self.engine.write(staged.into_batch())?;
        }
        Ok(())
    }
}
