use std::collections::BTreeMap;

use bytes::Bytes;
use keelstone_engine::{Batch, Column, Engine, EngineError};
use keelstone_etcd_api::{mvccpb, mvccpb::event::EventType, pb};

use super::ApplyError;
use crate::{
    index::Version,
    read::{self, Values},
    record::{self, LeaseRecord, Revision},
    shared::EngineValues,
    view::View,
    watch::{Change, Prev, RevisionEvents},
    LeaseEvent, MvccError, RangeBounds,
};

/// The state while entries are applied to it, and what they will write.
pub struct Working<'a> {
    pub view: View,
    pub batch: Batch,
    pub events: Vec<RevisionEvents>,
    pub lease_events: Vec<LeaseEvent>,
    values: WorkingValues<'a>,
    /// Changes of the txn that is open, so far.
    changes: Vec<Change>,
}

/// The values that are in the engine, and those of the batch that is not yet there.
struct WorkingValues<'a> {
    engine: EngineValues<'a>,
    written: BTreeMap<Revision, Bytes>,
}

impl Values for WorkingValues<'_> {
    fn record(&self, at: Revision) -> Result<Option<Bytes>, EngineError> {
        match self.written.get(&at) {
            Some(record) => Ok(Some(record.clone())),
            None => self.engine.record(at),
        }
    }
}

impl<'a> Working<'a> {
    pub fn new(view: View, engine: &'a dyn Engine) -> Self {
        let engine = EngineValues { engine, generation: view.generation };
        Self {
            view,
            batch: Batch::default(),
            events: Vec::new(),
            lease_events: Vec::new(),
            values: WorkingValues { engine, written: BTreeMap::new() },
            changes: Vec::new(),
        }
    }

    /// The revision that a read sees now: within a txn that has changed something, the one it is making.
    pub fn current_revision(&self) -> i64 {
        self.view.revision + i64::from(!self.changes.is_empty())
    }

    /// Ends the txn: its changes, if any, become one revision.
    pub fn commit(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        self.view.revision += 1;
        let changes = std::mem::take(&mut self.changes);
        self.events.push(RevisionEvents { revision: self.view.revision, changes });
    }

    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApplyError> {
        Ok(read::range(&self.view, &self.values, self.current_revision(), request)?)
    }

    pub fn kv(&self, version: Version) -> Result<mvccpb::KeyValue, ApplyError> {
        Ok(read::kv(&self.values, version)?)
    }

    /// The keys that exist now in a range, with their versions.
    pub fn live(&self, bounds: &RangeBounds) -> Vec<(Bytes, Version)> {
        let found = self.view.index.range(bounds, self.current_revision());
        found.map(|(key, version)| (key.clone(), version)).collect()
    }

    pub fn put(&mut self, key: &Bytes, value: Bytes, lease: i64) {
        let prev = self.view.index.live(key);
        let at = self.next_place();
        let version = Version {
            at,
            create: prev.map_or(at.main, |prev| prev.create),
            version: prev.map_or(1, |prev| prev.version + 1),
            lease,
        };
        let key = self.view.index.push(key, version);
        self.attach(&key, prev.map_or(0, |prev| prev.lease), lease);
        let kv = mvccpb::KeyValue {
            key,
            create_revision: version.create,
            mod_revision: at.main,
            version: version.version,
            value,
            lease,
        };
        self.change(EventType::Put, at, kv, prev);
    }

    pub fn delete(&mut self, key: &Bytes, prev: Version) {
        let at = self.next_place();
        let key = self.view.index.push(key, Version { at, ..Version::default() });
        self.attach(&key, prev.lease, 0);
        let kv = mvccpb::KeyValue { key, mod_revision: at.main, ..Default::default() };
        self.change(EventType::Delete, at, kv, Some(prev));
    }

    fn next_place(&self) -> Revision {
        // A txn that changes 2^32 keys would not fit in memory.
        Revision { main: self.view.revision + 1, sub: u32::try_from(self.changes.len()).unwrap_or(u32::MAX) }
    }

    fn attach(&mut self, key: &Bytes, old: i64, new: i64) {
        if old == new {
            return;
        }
        if old != 0 {
            self.view.attached.remove(&(old, key.clone()));
        }
        if new != 0 {
            self.view.attached.insert((new, key.clone()));
        }
    }

    fn change(&mut self, kind: EventType, at: Revision, kv: mvccpb::KeyValue, prev: Option<Version>) {
        let record = record::encode(&kv);
        self.view.mix(&record);
        self.batch.put(Column::Revisions, record::revision_key(self.view.generation, at), record.clone());
        // The event's value is a slice of the record, not of the request's message.
        let value = if kv.value.is_empty() { Bytes::new() } else { value_in(&record, &kv) };
        self.values.written.insert(at, record);
        let prev = prev.map_or(Prev::None, |prev| Prev::At(prev.at));
        self.changes.push(Change { kind, kv: mvccpb::KeyValue { value, ..kv }, prev });
    }

    pub fn grant_lease(&mut self, id: i64, ttl_s: i64) {
        self.view.leases.insert(id, ttl_s);
        let key = record::lease_key(self.view.generation, id);
        let record = record::encode(&LeaseRecord { ttl_s });
        self.mix_tagged(b'g', &[id, ttl_s]);
        self.batch.put(Column::Leases, key, record);
        self.lease_events.push(LeaseEvent::Granted(crate::LeaseInfo { id, ttl_s }));
    }

    /// Deletes the lease's keys, as one revision, and the lease.
    pub fn revoke_lease(&mut self, id: i64) {
        let keys: Vec<Bytes> = self.view.lease_keys(id).cloned().collect();
        for key in keys {
            if let Some(version) = self.view.index.live(&key) {
                self.delete(&key, version);
            }
        }
        self.commit();
        self.view.leases.remove(&id);
        self.mix_tagged(b'r', &[id]);
        self.batch.delete(Column::Leases, record::lease_key(self.view.generation, id));
        self.lease_events.push(LeaseEvent::Revoked { id });
    }

    pub fn compact(&mut self, revision: i64) {
        self.view.compacted = revision;
        self.mix_tagged(b'c', &[revision]);
    }

    pub fn set_alarm(&mut self, member: u64, alarm: i32) {
        self.view.alarms.insert((member, alarm));
        self.mix_tagged(b'a', &[member.cast_signed(), i64::from(alarm)]);
        self.batch.put(Column::Auth, record::alarm_key(self.view.generation, member, alarm), Bytes::new());
    }

    /// Returns whether the alarm was on.
    pub fn clear_alarm(&mut self, member: u64, alarm: i32) -> bool {
        if self.view.alarms.remove(&(member, alarm)).is_none() {
            return false;
        }
        self.mix_tagged(b'd', &[member.cast_signed(), i64::from(alarm)]);
        self.batch.delete(Column::Auth, record::alarm_key(self.view.generation, member, alarm));
        true
    }

    fn mix_tagged(&mut self, tag: u8, numbers: &[i64]) {
        let mut effect = vec![tag];
        numbers.iter().for_each(|number| effect.extend(number.to_be_bytes()));
        self.view.mix(&effect);
    }

    /// Reads the values before each event, while they are certainly there.
    pub fn fill_prev_kvs(&mut self) -> Result<(), MvccError> {
        for change in self.events.iter_mut().flat_map(|events| &mut events.changes) {
            let Prev::At(at) = change.prev else { continue };
            let record = self.values.record(at)?;
            let record = record.ok_or_else(|| MvccError::Corrupt("a previous value is missing".to_owned()))?;
            change.prev = Prev::Known(record::decode_kv(record)?);
        }
        Ok(())
    }
}

/// The value of `kv` as a slice of its record.
fn value_in(record: &Bytes, kv: &mvccpb::KeyValue) -> Bytes {
    record::decode_kv(record.clone()).map_or_else(|_| kv.value.clone(), |decoded| decoded.value)
}
