use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use keelstone_engine::Snapshot;

use crate::{
    auth::AuthState,
    index::{Index, KeyCounts},
    recent::Recent,
    record::{StateRecord, FORMAT_VERSION},
    Applied, LeaseInfo,
};

/// The whole state at one applied index: what is small, and a snapshot of the engine with the rest. Cloning is
/// O(1).
#[derive(Clone)]
pub struct View {
    pub snapshot: Arc<dyn Snapshot>,
    /// Some newest versions, of this state or a newer one.
    pub recent: Arc<Recent>,
    /// How many keys exist, by bucket.
    pub counts: KeyCounts,
    /// Lease id to TTL in seconds.
    pub leases: OrdMap<i64, i64>,
    /// Member id and alarm type.
    pub alarms: OrdSet<(u64, i32)>,
    pub auth: AuthState,
    pub revision: i64,
    /// -1 if nothing was compacted.
    pub compacted: i64,
    /// The applied index plus one; 0 if nothing was applied.
    pub applied_next: u64,
    pub log_id: Bytes,
    pub membership: Bytes,
    /// Hash of all effects so far.
    pub hash: u64,
    pub generation: u8,
}

impl View {
    /// The state before the first entry, or what `record` says without its data.
    pub fn new(snapshot: Arc<dyn Snapshot>, record: Option<StateRecord>) -> Self {
        let record = record.unwrap_or(StateRecord { revision: 1, compacted: -1, ..StateRecord::default() });
        Self {
            snapshot,
            recent: Arc::default(),
            counts: KeyCounts::default(),
            leases: OrdMap::new(),
            alarms: OrdSet::new(),
            auth: AuthState::default(),
            revision: record.revision,
            compacted: record.compacted,
            applied_next: record.applied_next,
            log_id: record.log_id,
            membership: record.membership,
            hash: record.hash,
            generation: u8::from(record.generation == 1),
        }
    }

    pub fn record(&self) -> StateRecord {
        StateRecord {
            format_version: FORMAT_VERSION,
            generation: u32::from(self.generation),
            applied_next: self.applied_next,
            log_id: self.log_id.clone(),
            membership: self.membership.clone(),
            revision: self.revision,
            compacted: self.compacted,
            hash: self.hash,
            swept: 0,
        }
    }

    pub fn applied(&self) -> Applied {
        Applied {
            index: self.applied_next.saturating_sub(1),
            log_id: self.log_id.clone(),
            membership: self.membership.clone(),
        }
    }

    pub fn lease(&self, id: i64) -> Option<LeaseInfo> {
        self.leases.get(&id).map(|ttl_s| LeaseInfo { id, ttl_s: *ttl_s })
    }

    pub fn index(&self) -> Index<'_> {
        Index {
            rows: &*self.snapshot,
            counts: &self.counts,
            recent: &self.recent,
            is_staged: false,
            generation: self.generation,
            revision: self.revision,
        }
    }

    pub fn has_alarm(&self, alarm: keelstone_etcd_api::pb::AlarmType) -> bool {
        self.alarms.iter().any(|(_, kind)| *kind == alarm as i32)
    }

    /// The alarm CORRUPT for the whole cluster (member 0). That of one member is for that member alone, which
    /// serves nothing until it is repaired; the others go on.
    pub fn is_corrupt(&self) -> bool {
        self.alarms.contains(&(0, keelstone_etcd_api::pb::AlarmType::Corrupt as i32))
    }

    /// Adds an effect to the state hash.
    pub fn mix(&mut self, effect: &[u8]) {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let word = u64::from(crc32c::crc32c(effect)) | (effect.len() as u64) << 32;
        let mixed = (self.hash.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
        self.hash = mixed ^ (mixed >> 29);
    }
}
