//! Physical compaction. A compaction command only moves the compacted revision; the versions that it makes
//! unreadable are removed here, a step at a time, beside traffic.
//!
//! The walk is along the revisions up to the compacted one, not along the keys: each of them made at most one
//! version unreadable, the one that it replaced. So the work is that of the changes since the last compaction,
//! however many keys there are. Example, compacting 5:
//!
//! ```text
//! 2 put a   3 put b   4 put a   5 delete b   6 put a
//! 4 replaced 2: 2 goes      5 replaced 3: 3 goes; the deletion itself stays until 6 is compacted
//! ```

use keelstone_engine::{Batch, Column, Direction, RangeRequest};
use keelstone_env::bug::{self, Bug};

use crate::{
    index::{rows, Index, Version},
    load,
    record::{self, Revision, SWEPT_KEY},
    shared::Shared,
    MvccError,
};

/// How far the removal has come. Local to this member: no part of the replicated state.
pub struct Sweep {
    /// Every version that a revision before this one made unreadable is removed.
    swept: i64,
    /// Where in revision `swept` to go on, for the compacted revision of the step before: for another one, its
    /// deletions have to be looked at again.
    next: Option<(i64, Revision)>,
}

impl Sweep {
    pub fn new(swept: i64) -> Self {
        Self { swept, next: None }
    }
}

/// Looks at up to `budget` revisions' changes; returns whether more is left. Writers are not held up but for the
/// write of what is removed.
pub fn step(shared: &Shared, budget: usize) -> Result<bool, MvccError> {
    let mut sweep = shared.sweep();
    let view = shared.view();
    let target = view.compacted;
    if sweep.swept >= target {
        return Ok(false);
    }
    let index = view.index();
    let start = Revision { main: sweep.swept.max(0), sub: 0 };
    let from = sweep.next.filter(|(before, _)| *before == target).map_or(start, |(_, next)| next);
    let page = index.rows.range(&RangeRequest {
        column: Column::Revisions,
        start: record::revision_key(view.generation, from),
        end: Some(record::revision_key(view.generation, Revision { main: target.saturating_add(1), sub: 0 })),
        direction: Direction::Ascending,
        limit: budget.max(1),
    })?;
    let mut batch = Batch::default();
    let mut last = from;
    for (row, value) in page.pairs {
        last = record::parse_revision_key(&row)?;
        let kv = record::decode_kv(value)?;
        let version = Version { at: last, version: kv.version, ..Version::default() };
        remove_replaced(index, target, &kv.key, version, &mut batch)?;
    }
    let more = page.more;
    let swept = if more { last.main } else { target };
    if !more {
        remove_moments(index, target, &mut batch)?;
    }
    batch.put(Column::Meta, SWEPT_KEY, swept.to_be_bytes().to_vec());
    // Nobody else writes these rows: readers have their snapshots, writers only add.
    shared.engine.write(batch)?;
    sweep.swept = swept;
    sweep.next = more.then(|| (target, Revision { sub: last.sub.saturating_add(1), ..last }));
    drop(sweep);
    if !more {
        shared.refresh_snapshot()?;
        shared.refresh_size()?;
    }
    Ok(more || shared.view().compacted > target)
}

/// What `version` of `key` made unreadable: the version that it replaced and, if it is a deletion, itself.
fn remove_replaced(
    index: Index<'_>,
    target: i64,
    key: &[u8],
    version: Version,
    batch: &mut Batch,
) -> Result<(), MvccError> {
    let mut remove = |at| {
        batch.delete(Column::Revisions, record::revision_key(index.generation, at));
        batch.delete(Column::Index, rows::history(index.generation, key, at));
    };
    if version.version != 1 {
        if let Some(replaced) = index.before(key, version.at)? {
            remove(replaced.at);
        }
    }
    // A deletion at the compacted revision itself stays for watches that start there (in etcd 17780 it did not).
    let goes = version.at.main < target || bug::planted(Bug::RevisionFromRows);
    if version.is_tombstone() && goes {
        remove(version.at);
    }
    if version.version <= 1 {
        batch.delete(Column::Index, rows::turn(index.generation, version.at));
    }
    Ok(())
}

/// Removes the times of compacted revisions, but for the newest one.
fn remove_moments(index: Index<'_>, target: i64, batch: &mut Batch) -> Result<(), MvccError> {
    let (start, end) = rows::moments_upto(index.generation, i64::MAX - 1);
    let mut before = None;
    load::for_each_between(index.rows, Column::Index, start, end, |row, value| {
        let (_, revision) = rows::parse_moment(&row, &value)?;
        if let Some(before) = before.take().filter(|_| revision <= target) {
            batch.delete(Column::Index, before);
        }
        before = (revision <= target).then_some(row);
        Ok(())
    })
}
