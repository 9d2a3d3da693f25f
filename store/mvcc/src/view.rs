use bytes::Bytes;
use imbl::{OrdMap, OrdSet};

use crate::{
    index::Index,
    record::{StateRecord, FORMAT_VERSION},
    Applied, LeaseInfo,
};

/// The whole state at one applied index, but for the values, which are in the engine. Cloning is O(1).
#[derive(Clone)]
pub struct View {
    pub index: Index,
    /// Lease id to TTL in seconds.
    pub leases: OrdMap<i64, i64>,
    /// Lease id and key.
    pub attached: OrdSet<(i64, Bytes)>,
    /// Member id and alarm type.
    pub alarms: OrdSet<(u64, i32)>,
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
    pub fn new(record: Option<StateRecord>) -> Self {
        let record = record.unwrap_or(StateRecord { revision: 1, compacted: -1, ..StateRecord::default() });
        Self {
            index: Index::default(),
            leases: OrdMap::new(),
            attached: OrdSet::new(),
            alarms: OrdSet::new(),
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

    /// The keys attached to a lease, in order.
    pub fn lease_keys(&self, id: i64) -> impl Iterator<Item = &Bytes> {
        self.attached.range((id, Bytes::new())..).take_while(move |(lease, _)| *lease == id).map(|(_, key)| key)
    }

    pub fn has_alarm(&self, alarm: keelstone_etcd_api::pb::AlarmType) -> bool {
        self.alarms.iter().any(|(_, kind)| *kind == alarm as i32)
    }

    /// Adds an effect to the state hash.
    pub fn mix(&mut self, effect: &[u8]) {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let word = u64::from(crc32c::crc32c(effect)) | (effect.len() as u64) << 32;
        let mixed = (self.hash.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
        self.hash = mixed ^ (mixed >> 29);
    }
}
