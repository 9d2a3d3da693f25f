//! Opens a [`View`] on what the engine holds.

use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Direction, Engine, EngineError, RangeRequest, Snapshot};
use prost::Message;

use crate::{
    index::{self, rows, Bucket},
    record::{
        self, generation_bounds, LeaseRecord, StateRecord, DATA_COLUMNS, FORMAT_VERSION, FORMAT_VERSION_WITHOUT_INDEX,
        STATE_KEY, SWEPT_KEY,
    },
    view::View,
    MvccError,
};

/// The state record, if one was ever written.
pub fn state_record(engine: &dyn Engine) -> Result<Option<StateRecord>, MvccError> {
    engine.get(Column::Meta, STATE_KEY)?.map(StateRecord::decode_checked).transpose()
}

/// Brings what an older version wrote to the current format. A crash in between leaves the older one.
pub fn upgrade(engine: &dyn Engine, record: &mut StateRecord) -> Result<(), MvccError> {
    if record.format_version != FORMAT_VERSION_WITHOUT_INDEX {
        return Ok(());
    }
    tracing::info!(revision = record.revision, "building the key index of an older format");
    index::build(engine, generation(record))?;
    record.format_version = FORMAT_VERSION;
    let mut batch = Batch::default();
    batch.put(Column::Meta, STATE_KEY, record::encode(record));
    engine.write(batch)?;
    engine.flush()?;
    Ok(())
}

pub fn generation(record: &StateRecord) -> u8 {
    u8::from(record.generation == 1)
}

/// All dead versions before this revision are removed; -1 if nothing ever was.
pub fn swept(snapshot: &dyn Snapshot) -> Result<i64, MvccError> {
    match snapshot.get(Column::Meta, SWEPT_KEY)? {
        None => Ok(-1),
        Some(value) => {
            value[..].try_into().map(i64::from_be_bytes).map_err(|_| MvccError::Corrupt("swept record".to_owned()))
        }
    }
}

/// The newest revision that has a row, which is lower than the newest revision once compaction has removed
/// the rows of the latter: what etcd 17780 went by.
pub fn newest_row(snapshot: &dyn Snapshot, generation: u8) -> Result<i64, MvccError> {
    let (start, end) = generation_bounds(generation);
    let direction = Direction::Descending;
    let request = RangeRequest { column: Column::Revisions, start, end: Some(end), direction, limit: 1 };
    let newest = snapshot.range(&request)?.pairs.into_iter().next();
    newest.map_or(Ok(1), |(key, _)| Ok(record::parse_revision_key(&key)?.main))
}

/// Reads what a view keeps in memory: leases, alarms and the buckets of counts. Keys stay in the engine.
pub fn view(snapshot: Arc<dyn Snapshot>, record: Option<StateRecord>) -> Result<View, MvccError> {
    let mut view = View::new(Arc::clone(&snapshot), record);
    load_leases(&*snapshot, &mut view)?;
    load_alarms(&*snapshot, &mut view)?;
    load_counts(&*snapshot, &mut view)?;
    Ok(view)
}

fn load_leases(snapshot: &dyn Snapshot, view: &mut View) -> Result<(), MvccError> {
    for_each_pair(snapshot, Column::Leases, view.generation, |key, value| {
        let id = key.get(1..).and_then(|id| id.try_into().ok()).map(i64::from_be_bytes);
        match (id, LeaseRecord::decode(value)) {
            (Some(id), Ok(lease)) => {
                view.leases.insert(id, lease.ttl_s);
                Ok(())
            }
            _ => Err(MvccError::Corrupt("lease record".to_owned())),
        }
    })
}

fn load_alarms(snapshot: &dyn Snapshot, view: &mut View) -> Result<(), MvccError> {
    let start = record::alarms_start(view.generation);
    let end = record::alarms_end(view.generation);
    for_each_between(snapshot, Column::Auth, start, end, |key, _| {
        let member = key.get(2..10).and_then(|member| member.try_into().ok()).map(u64::from_be_bytes);
        let alarm = key.get(10..).and_then(|alarm| alarm.try_into().ok()).map(i32::from_be_bytes);
        let (Some(member), Some(alarm)) = (member, alarm) else {
            return Err(MvccError::Corrupt("alarm record".to_owned()));
        };
        view.alarms.insert((member, alarm));
        Ok(())
    })
}

fn load_counts(snapshot: &dyn Snapshot, view: &mut View) -> Result<(), MvccError> {
    let (start, end) = rows::buckets(view.generation);
    for_each_between(snapshot, Column::Index, start, end, |key, value| {
        let (fence, keys) = rows::parse_bucket(&key, &value)?;
        view.counts.load(Bucket { fence: Bytes::copy_from_slice(&fence), keys });
        Ok(())
    })
}

/// Walks a generation's pairs of one column, a page at a time.
pub fn for_each_pair(
    snapshot: &dyn Snapshot,
    column: Column,
    generation: u8,
    each: impl FnMut(Bytes, Bytes) -> Result<(), MvccError>,
) -> Result<(), MvccError> {
    let (start, end) = generation_bounds(generation);
    for_each_between(snapshot, column, start, end, each)
}

/// Walks the pairs of one column between two keys, a page at a time.
pub fn for_each_between(
    snapshot: &dyn Snapshot,
    column: Column,
    start: Bytes,
    end: Bytes,
    mut each: impl FnMut(Bytes, Bytes) -> Result<(), MvccError>,
) -> Result<(), MvccError> {
    let mut request =
        RangeRequest { column, start, end: Some(end), direction: Direction::Ascending, limit: usize::MAX };
    loop {
        let page = snapshot.range(&request)?;
        let Some((last, _)) = page.pairs.last() else { return Ok(()) };
        request.start = after(last);
        for (key, value) in page.pairs {
            each(key, value)?;
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// The first key after `key`.
pub fn after(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// Removes a generation that a stopped or finished install left behind.
pub fn wipe_generation(engine: &dyn Engine, generation: u8) -> Result<(), EngineError> {
    wipe_columns(engine, generation, &DATA_COLUMNS)
}

pub fn wipe_columns(engine: &dyn Engine, generation: u8, columns: &[Column]) -> Result<(), EngineError> {
    let (start, end) = generation_bounds(generation);
    let mut batch = Batch::default();
    for column in columns.iter().copied() {
        let request = RangeRequest {
            column,
            start: start.clone(),
            end: Some(end.clone()),
            direction: Direction::Ascending,
            limit: 1,
        };
        if !engine.range(&request)?.pairs.is_empty() {
            batch.delete_range(column, start.clone(), end.clone());
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    engine.write(batch)
}
