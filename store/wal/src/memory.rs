//! The log as memory knows it: where each entry lies, and the recent ones themselves.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{segment::Marks, LogEntry, WalError};

/// Where an entry's body lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub sequence: u64,
    pub offset: u64,
    pub length: u32,
    pub crc: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Tells an entry from one that replaced it at the same index.
    pub serial: u64,
    pub term: u64,
    pub kind: u8,
    /// Absent until the writer has written it.
    pub place: Option<Place>,
    /// Absent once evicted; never absent without a place.
    pub body: Option<Bytes>,
}

/// Entries `first..first + slots.len()`, and the marks, as of the newest operation that was queued.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    first: u64,
    slots: VecDeque<Slot>,
    next_serial: u64,
    pub marks: Marks,
    /// The index after the last entry that is on disk for good.
    pub durable: u64,
    cached_bytes: usize,
    /// All slots before this index are evicted or were never cached.
    evicted_before: u64,
}

impl Memory {
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    /// Index and term of the last entry.
    pub(crate) fn last(&self) -> Option<(u64, u64)> {
        let slot = self.slots.back()?;
        Some((self.next() - 1, slot.term))
    }

    /// The index after the last entry's.
    fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Checks that `index` is what comes next. An empty log without a purge mark begins anywhere.
    pub(crate) fn check_next(&self, index: u64) -> Result<(), WalError> {
        let wanted = match (self.slots.is_empty(), &self.marks.purged) {
            (false, _) => self.next(),
            (true, Some((through, _))) => through + 1,
            (true, None) => return Ok(()),
        };
        if index == wanted {
            return Ok(());
        }
        Err(WalError::Misuse(format!("entry {index} was appended where {wanted} comes next")))
    }

    /// Appends; the entry must have passed [`Memory::check_next`]. Returns its serial.
    pub(crate) fn push(&mut self, entry: &LogEntry, place: Option<Place>) -> u64 {
        if self.slots.is_empty() {
            self.first = entry.index;
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let body = place.is_none().then(|| entry.body.clone());
        self.cached_bytes += body.as_ref().map_or(0, Bytes::len);
        self.slots.push_back(Slot { serial, term: entry.term, kind: entry.kind, place, body });
        serial
    }

    pub(crate) fn truncate(&mut self, from: u64) {
        while self.next() > from {
            let Some(slot) = self.slots.pop_back() else { break };
            self.cached_bytes -= slot.body.map_or(0, |body| body.len());
        }
        self.durable = self.durable.min(from);
        self.evicted_before = self.evicted_before.min(from);
    }

    /// Drops entries up to `through`, which may lie beyond the end.
    pub(crate) fn purge(&mut self, through: u64, mark: Bytes) {
        if self.marks.purged.as_ref().is_some_and(|(purged, _)| *purged >= through) {
            return;
        }
        while !self.slots.is_empty() && self.first <= through {
            let slot = self.slots.pop_front();
            self.cached_bytes -= slot.and_then(|slot| slot.body).map_or(0, |body| body.len());
            self.first += 1;
        }
        self.durable = self.durable.max(through + 1);
        self.marks.purged = Some((through, mark));
    }

    /// Records where an entry was written and evicts what is beyond `cache_bytes_max`. Returns false if the
    /// entry is gone.
    pub(crate) fn placed(&mut self, index: u64, serial: u64, place: Place, cache_bytes_max: usize) -> bool {
        let Some(slot) = index.checked_sub(self.first).and_then(|at| self.slots.get_mut(usize::try_from(at).ok()?))
        else {
            return false;
        };
        if slot.serial != serial {
            return false;
        }
        slot.place = Some(place);
        self.evict(cache_bytes_max);
        true
    }

    fn evict(&mut self, cache_bytes_max: usize) {
        while self.cached_bytes > cache_bytes_max {
            let index = self.evicted_before.max(self.first);
            let Some(slot) = usize::try_from(index - self.first).ok().and_then(|at| self.slots.get_mut(at)) else {
                return;
            };
            if slot.place.is_none() {
                return;
            }
            self.cached_bytes -= slot.body.take().map_or(0, |body| body.len());
            self.evicted_before = index + 1;
        }
    }

    /// The slots of `start..end` that exist, as far as `bytes_max` goes (at least one).
    pub(crate) fn slots(&self, start: u64, end: u64, bytes_max: u64) -> Vec<(u64, Slot)> {
        let start = start.max(self.first);
        let end = end.min(self.next());
        let mut out = Vec::new();
        let mut bytes = 0;
        for index in start..end {
            let Some(slot) = usize::try_from(index - self.first).ok().and_then(|at| self.slots.get(at)) else { break };
            bytes += slot
                .body
                .as_ref()
                .map_or_else(|| slot.place.map_or(0, |place| u64::from(place.length)), |body| body.len() as u64);
            if bytes > bytes_max && !out.is_empty() {
                break;
            }
            out.push((index, slot.clone()));
        }
        out
    }
}
