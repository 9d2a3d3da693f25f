use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::Column;
use keelstone_etcd_api::{mvccpb, mvccpb::event::EventType, pb};
use prost::Message;

use super::ApplyError;
use crate::{
    auth::AuthKey,
    index::{Index, IndexWriter, Version},
    read,
    record::{self, LeaseRecord, Revision},
    staged::Staged,
    view::View,
    watch::{Change, Prev, RevisionEvents},
    LeaseEvent, MvccError, RangeBounds,
};

/// The state while entries are applied to it, and what they will write.
pub struct Working {
    pub view: View,
    pub staged: Staged,
    pub events: Vec<RevisionEvents>,
    pub lease_events: Vec<LeaseEvent>,
    /// Changes of the txn that is open, so far.
    changes: Vec<Change>,
}

impl Working {
    pub fn new(view: View) -> Self {
        let staged = Staged::with_recent(Arc::clone(&view.snapshot), Arc::clone(&view.recent));
        Self { view, staged, events: Vec::new(), lease_events: Vec::new(), changes: Vec::new() }
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

    pub fn index(&self) -> Index<'_> {
        Index { rows: &self.staged, is_staged: true, revision: self.current_revision(), ..self.view.index() }
    }

    fn writer(&mut self) -> IndexWriter<'_> {
        let generation = self.view.generation;
        IndexWriter { staged: &mut self.staged, counts: &mut self.view.counts, generation }
    }

    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApplyError> {
        // What a txn reads is bounded where it is proposed: an entry must do the same on every member.
        Ok(read::range(self.index(), self.view.compacted, request, &mut |_| Ok(()))?)
    }

    pub fn kv(&self, key: &[u8], version: Version) -> Result<mvccpb::KeyValue, ApplyError> {
        Ok(read::kv(self.index(), key, version)?)
    }

    /// The keys that exist now in a range, with their versions.
    pub fn live(&self, bounds: &RangeBounds) -> Result<Vec<(Bytes, Version)>, ApplyError> {
        Ok(self.index().page(bounds, self.current_revision(), usize::MAX)?)
    }

    /// Writes a key; `prev` is its version now, if it exists.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64, prev: Option<Version>) -> Result<(), ApplyError> {
        let at = self.next_place();
        let kv = mvccpb::KeyValue {
            key,
            create_revision: prev.map_or(at.main, |prev| prev.create),
            mod_revision: at.main,
            version: prev.map_or(1, |prev| prev.version + 1),
            value,
            lease,
        };
        let bytes = u32::try_from(kv.encoded_len()).unwrap_or(u32::MAX);
        let version = Version { at, create: kv.create_revision, version: kv.version, lease, bytes };
        self.writer().put(&kv.key, version, prev)?;
        self.change(EventType::Put, at, &kv, prev)
    }

    pub fn delete(&mut self, key: Bytes, prev: Version) -> Result<(), ApplyError> {
        let at = self.next_place();
        self.writer().delete(&key, at, prev);
        let kv = mvccpb::KeyValue { key, mod_revision: at.main, ..Default::default() };
        self.change(EventType::Delete, at, &kv, Some(prev))
    }

    fn next_place(&self) -> Revision {
        // A txn that changes 2^32 keys would not fit in memory.
        Revision { main: self.view.revision + 1, sub: u32::try_from(self.changes.len()).unwrap_or(u32::MAX) }
    }

    fn change(
        &mut self,
        kind: EventType,
        at: Revision,
        kv: &mvccpb::KeyValue,
        prev: Option<Version>,
    ) -> Result<(), ApplyError> {
        let record = record::encode(kv);
        self.view.mix(&record);
        self.staged.put(Column::Revisions, record::revision_key(self.view.generation, at), record.clone());
        let prev = prev.map_or(Prev::None, |prev| Prev::At(prev.at));
        // The event's key and value are slices of the record, not of the request's whole message.
        self.changes.push(Change { kind, kv: record::decode_kv(record)?, prev });
        Ok(())
    }

    pub fn grant_lease(&mut self, id: i64, ttl_s: i64) {
        self.view.leases.insert(id, ttl_s);
        let key = record::lease_key(self.view.generation, id);
        let record = record::encode(&LeaseRecord { ttl_s });
        self.mix_tagged(b'g', &[id, ttl_s]);
        self.staged.put(Column::Leases, key, record);
        self.lease_events.push(LeaseEvent::Granted(crate::LeaseInfo { id, ttl_s }));
    }

    /// Deletes the lease's keys, as one revision, and the lease.
    pub fn revoke_lease(&mut self, id: i64) -> Result<(), ApplyError> {
        for key in self.index().attached(id)? {
            if let Some(version) = self.index().live(&key)? {
                self.delete(key, version)?;
            }
        }
        self.commit();
        self.view.leases.remove(&id);
        self.mix_tagged(b'r', &[id]);
        self.staged.delete(Column::Leases, record::lease_key(self.view.generation, id));
        self.lease_events.push(LeaseEvent::Revoked { id });
        Ok(())
    }

    pub fn compact(&mut self, revision: i64) {
        self.view.compacted = revision;
        self.mix_tagged(b'c', &[revision]);
    }

    pub fn set_alarm(&mut self, member: u64, alarm: i32) {
        self.view.alarms.insert((member, alarm));
        self.mix_tagged(b'a', &[member.cast_signed(), i64::from(alarm)]);
        self.staged.put(Column::Auth, AuthKey::Alarm(member, alarm).encode(self.view.generation), Bytes::new());
    }

    /// Returns whether the alarm was on.
    pub fn clear_alarm(&mut self, member: u64, alarm: i32) -> bool {
        if self.view.alarms.remove(&(member, alarm)).is_none() {
            return false;
        }
        self.mix_tagged(b'd', &[member.cast_signed(), i64::from(alarm)]);
        self.staged.delete(Column::Auth, AuthKey::Alarm(member, alarm).encode(self.view.generation));
        true
    }

    /// Notes that the newest revision was written by `unix_ms`, unless that is not after the last such time.
    pub fn moment(&mut self, unix_ms: i64) -> Result<(), ApplyError> {
        let last = self.index().last_moment()?;
        if unix_ms <= 0 || last.is_some_and(|(last, _)| unix_ms <= last) {
            return Ok(());
        }
        let revision = self.view.revision;
        self.writer().moment(unix_ms, revision);
        self.mix_tagged(b't', &[unix_ms, revision]);
        Ok(())
    }

    /// Writes whether auth is on, its revision and its secret.
    pub fn save_auth_settings(&mut self) {
        let settings = self.view.auth.settings();
        self.save_auth(&AuthKey::Settings, &settings);
    }

    /// Writes a user, a role or the settings.
    pub fn save_auth(&mut self, key: &AuthKey, record: &impl Message) {
        let (key, record) = (key.encode(self.view.generation), record::encode(record));
        // The generation differs between members.
        self.view.mix(&[&b"k"[..], &key[1..]].concat());
        self.view.mix(&record);
        self.staged.put(Column::Auth, key, record);
    }

    pub fn forget_auth(&mut self, key: &AuthKey) {
        let key = key.encode(self.view.generation);
        self.view.mix(&[&b"f"[..], &key[1..]].concat());
        self.staged.delete(Column::Auth, key);
    }

    fn mix_tagged(&mut self, tag: u8, numbers: &[i64]) {
        let mut effect = vec![tag];
        numbers.iter().for_each(|number| effect.extend(number.to_be_bytes()));
        self.view.mix(&effect);
    }

    /// Reads the values before each event, while they are certainly there.
    pub fn fill_prev_kvs(&mut self) -> Result<(), MvccError> {
        let mut events = std::mem::take(&mut self.events);
        for change in events.iter_mut().flat_map(|events| &mut events.changes) {
            let Prev::At(at) = change.prev else { continue };
            let found = read::find_kv(self.index(), &change.kv.key, at)?;
            let kv = found.ok_or_else(|| MvccError::Corrupt("a previous value is missing".to_owned()))?;
            change.prev = Prev::Known(kv);
        }
        self.events = events;
        Ok(())
    }
}
