//! Opens a [`View`] on what the engine holds.

use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Direction, Engine, EngineError, RangeRequest, Snapshot};
use prost::Message;

use crate::{
    auth::AuthKey,
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
    load_auth(&*snapshot, &mut view)?;
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

/// Alarms, users and roles.
fn load_auth(snapshot: &dyn Snapshot, view: &mut View) -> Result<(), MvccError> {
    for_each_pair(snapshot, Column::Auth, view.generation, |key, value| {
        match AuthKey::decode(&key)? {
            AuthKey::Alarm(member, alarm) => drop(view.alarms.insert((member, alarm))),
            AuthKey::Settings => view.auth.load_settings(record::decode(value)?),
            AuthKey::User(name) => view.auth.load_user(name, record::decode(value)?),
            AuthKey::Role(name) => view.auth.put_role(name, record::decode(value)?),
        }
        Ok(())
    })?;
    view.auth.work_out_all();
    Ok(())
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
