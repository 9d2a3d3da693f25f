//! What goes wrong on a disk, beside the loss of unsynced data at a crash.
//!
//! | fault | what the process sees | what stays |
//! |---|---|---|
//! | `capacity_bytes` | writes fail with "no space" | everything |
//! | `error_percent` | calls fail with an I/O error; a failed sync may have dropped what it should have kept | what was synced |
//! | `power_cut` | the power goes at a sync or a rename: before it, or right after it | what was synced |
//! | `lying_sync` (planted) | nothing | what was synced before |
//! | [`SimDisk::flip_bit`] | nothing until it reads | a bit of synced data is wrong for good |
//! | [`SimDisk::misdirect_next_write`] | nothing until it reads | a write is in the wrong place for good |
//!
//! The last two spare the end of a file that grows: see `Inode::damageable` and `State::bring_back_astray`.

use std::io::{self, ErrorKind};

use keelstone_env::Random;

use super::{apply, Change, Inode, SimDisk, State};

/// What goes wrong while it is set.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults {
    /// Syncs answer without having done anything: the planted defect that durability checks must find.
    pub lying_sync: bool,
    /// Writes fail with "no space" while the files together are larger than this.
    pub capacity_bytes: Option<u64>,
    /// So many of 100 reads, writes and syncs fail with an I/O error.
    pub error_percent: u64,
    /// After so many more syncs and renames the power goes.
    pub power_cut: Option<PowerCut>,
}

/// The power goes at a boundary: a sync of a file or folder, or a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCut {
    /// Boundaries that are still passed unharmed.
    pub boundaries: u64,
    /// Just before the boundary's effect, or just after it, when nobody was told yet.
    pub before: bool,
}

/// Where a write was sent instead, or which bit was flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: String,
    pub offset: u64,
}

fn gone() -> io::Error {
    io::Error::other("the power is gone")
}

impl State {
    /// Fails if the power is gone or the dice say so.
    pub(super) fn access(&self) -> io::Result<()> {
        if self.power_gone {
            return Err(gone());
        }
        if self.faults.error_percent > 0 && self.random.chance(self.faults.error_percent) {
            return Err(io::Error::other("simulated input/output error"));
        }
        Ok(())
    }

    /// Does the work of a sync or a rename, and cuts the power before or after it if it is time.
    pub(super) fn boundary<T>(&mut self, work: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        self.syncs += 1;
        let cut = match &mut self.faults.power_cut {
            Some(cut) if cut.boundaries == 0 => Some(*cut),
            Some(cut) => {
                cut.boundaries -= 1;
                None
            }
            None => None,
        };
        if cut.is_some_and(|cut| cut.before) {
            self.cut_power();
            return Err(gone());
        }
        let done = work(self)?;
        if cut.is_some() {
            self.cut_power();
            return Err(gone());
        }
        Ok(done)
    }

    fn cut_power(&mut self) {
        self.faults.power_cut = None;
        self.lose_unsynced();
        self.power_gone = true;
    }

    /// A sync that failed: the kernel may have dropped the pages and calls them clean (what PostgreSQL's
    /// developers found in 2018), so that a later sync succeeds without them.
    pub(super) fn drop_unsynced(&mut self, id: u64) {
        if self.random.chance(50) {
            if let Some(inode) = self.inodes.get_mut(&id) {
                inode.pending.clear();
            }
        }
    }

    /// The write goes to another file, or to another place of the same one.
    pub(super) fn misdirected(&mut self, id: u64, change: &Change) -> Option<(u64, Change)> {
        let Change::Write { offset: begin, data } = change else { return None };
        if !std::mem::take(&mut self.misdirect_next) {
            return None;
        }
        let others: Vec<u64> = self.inodes.iter().filter(|(_, i)| i.damageable() > 0).map(|(id, _)| *id).collect();
        let target = others.get(self.random.below(others.len() as u64) as usize).copied()?;
        let room = self.inodes.get(&target).map_or(0, Inode::damageable);
        let offset = self.random.below(room as u64) as usize;
        if *begin > 0 {
            self.astray = Some((id, change.clone()));
        }
        self.damage.push(Damage { path: self.path_of(target), offset: offset as u64 });
        let data = data[..data.len().min(room - offset)].to_vec();
        Some((target, Change::Write { offset, data }))
    }

    /// The process ends while nothing durable lies behind a write that went astray. A log that lacks its end looks
    /// like one that was never written: nobody can tell them apart, so the write is where it belongs after all.
    pub(super) fn bring_back_astray(&mut self) {
        let Some((id, change)) = self.astray.take() else { return };
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.make_durable(&change, usize::MAX);
            apply(&mut inode.current, &change, usize::MAX);
        }
    }

    fn path_of(&self, id: u64) -> String {
        let found = self.names.iter().find(|(_, inode)| **inode == id);
        found.map(|(path, _)| path.display().to_string()).unwrap_or_default()
    }
}

impl SimDisk {
    pub fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// From now on writes fail once `more_bytes` more are used.
    pub fn fill_up(&self, more_bytes: u64) {
        let mut state = self.state();
        state.faults.capacity_bytes = Some(state.used_bytes() + more_bytes);
    }

    /// True from a power cut on until [`SimDisk::power_on`].
    pub fn power_is_gone(&self) -> bool {
        self.state().power_gone
    }

    /// The host comes back.
    pub fn power_on(&self) {
        self.state().power_gone = false;
    }

    /// The process that used the disk has ended; the power stays.
    pub fn process_ended(&self) {
        let mut state = self.state();
        state.bring_back_astray();
        state.locks.clear();
    }

    /// The next write goes somewhere else.
    pub fn misdirect_next_write(&self) {
        self.state().misdirect_next = true;
    }

    /// Flips one bit of what is durable, in a seeded file at a seeded place. `None` if there is nothing yet.
    pub fn flip_bit(&self) -> Option<Damage> {
        let mut guard = self.state();
        let state = &mut *guard;
        let files: Vec<u64> = state
            .names
            .values()
            .filter(|id| state.inodes.get(id).is_some_and(|i| i.damageable() > 0))
            .copied()
            .collect();
        let id = *files.get(state.random.below(files.len() as u64) as usize)?;
        let (room, bit) = (state.inodes.get(&id)?.damageable(), state.random.below(8));
        let offset = state.random.below(room as u64) as usize;
        let inode = state.inodes.get_mut(&id)?;
        inode.durable[offset] ^= 1 << bit;
        // The process sees it too, unless it has written there since.
        let mut content = inode.durable.clone();
        inode.pending.iter().for_each(|change| apply(&mut content, change, usize::MAX));
        inode.current = content;
        let damage = Damage { path: state.path_of(id), offset: offset as u64 };
        state.damage.push(damage.clone());
        Some(damage)
    }

    /// What was damaged for good so far.
    pub fn damage(&self) -> Vec<Damage> {
        self.state().damage.clone()
    }
}

/// "No space" if the write does not fit.
pub(super) fn check_space(state: &State, change: &Change) -> io::Result<()> {
    match (state.faults.capacity_bytes, change) {
        (Some(capacity), Change::Write { data, .. }) if state.used_bytes() + data.len() as u64 > capacity => {
            Err(ErrorKind::StorageFull.into())
        }
        _ => Ok(()),
    }
}
