//! Rebuilds a [`View`] from the engine.

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Direction, Engine, EngineError, RangeRequest, Snapshot};
use prost::Message;

use crate::{
    index::Version,
    record::{self, generation_bounds, LeaseRecord, StateRecord, DATA_COLUMNS, STATE_KEY},
    view::View,
    MvccError,
};

/// The state record, if one was ever written.
pub fn state_record(engine: &dyn Engine) -> Result<Option<StateRecord>, MvccError> {
    engine.get(Column::Meta, STATE_KEY)?.map(StateRecord::decode_checked).transpose()
}

/// Reads all data of the record's generation.
pub fn view(engine: &dyn Engine, record: Option<StateRecord>) -> Result<View, MvccError> {
    let snapshot = &*engine.snapshot()?;
    let mut view = View::new(record);
    load_leases(snapshot, &mut view)?;
    load_alarms(snapshot, &mut view)?;
    load_revisions(snapshot, &mut view)?;
    load_attachments(&mut view);
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
    for_each_pair(snapshot, Column::Auth, view.generation, |key, _| {
        let member = key.get(2..10).and_then(|member| member.try_into().ok()).map(u64::from_be_bytes);
        let alarm = key.get(10..).and_then(|alarm| alarm.try_into().ok()).map(i32::from_be_bytes);
        let (Some(member), Some(alarm), Some(b'a')) = (member, alarm, key.get(1)) else {
            return Err(MvccError::Corrupt("alarm record".to_owned()));
        };
        view.alarms.insert((member, alarm));
        Ok(())
    })
}

fn load_revisions(snapshot: &dyn Snapshot, view: &mut View) -> Result<(), MvccError> {
    for_each_pair(snapshot, Column::Revisions, view.generation, |key, value| {
        let at = record::parse_revision_key(&key)?;
        let kv = record::decode_kv(value)?;
        if at.main > view.revision || kv.mod_revision != at.main {
            return Err(MvccError::Corrupt(format!("key-value at revision {} does not belong there", at.main)));
        }
        view.index.push(&kv.key, Version { at, create: kv.create_revision, version: kv.version, lease: kv.lease });
        Ok(())
    })
}

fn load_attachments(view: &mut View) {
    let attached = view
        .index
        .iter()
        .filter_map(|(key, history)| Some((history.last()?, key)))
        .filter(|(version, _)| view.leases.contains_key(&version.lease))
        .map(|(version, key)| (version.lease, key.clone()));
    view.attached = attached.collect();
}

/// Walks a generation's pairs of one column, a page at a time.
pub fn for_each_pair(
    snapshot: &dyn Snapshot,
    column: Column,
    generation: u8,
    mut each: impl FnMut(Bytes, Bytes) -> Result<(), MvccError>,
) -> Result<(), MvccError> {
    let (start, end) = generation_bounds(generation);
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
    let (start, end) = generation_bounds(generation);
    let mut batch = Batch::default();
    for column in DATA_COLUMNS {
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
