//! Physical compaction. A compaction command only moves the compacted revision; the versions that it makes
//! unreadable are removed here, a step at a time, beside traffic.

use bytes::Bytes;
use keelstone_engine::{Batch, Column};

use crate::{
    load,
    record::{self, SWEPT_KEY},
    shared::{Shared, Writer},
    view::View,
    MvccError,
};

/// How far the removal has come. Local to this member: no part of the replicated state.
#[derive(Default)]
pub struct Sweep {
    /// Every dead version up to here is removed.
    swept: i64,
    /// The pass that is going on: its compacted revision, and the next key to look at.
    pass: Option<(i64, Bytes)>,
}

impl Sweep {
    pub fn new(swept: i64) -> Self {
        Self { swept, pass: None }
    }

    fn is_pending(&self, view: &View) -> bool {
        self.pass.is_some() || self.swept < view.compacted
    }
}

/// Does about `budget` units of work; returns whether more is left.
pub fn step(shared: &Shared, budget: usize) -> Result<bool, MvccError> {
    let mut writer = shared.writer();
    let mut view = View::clone(&shared.view());
    if !writer.sweep.is_pending(&view) {
        return Ok(false);
    }
    let (target, start) = writer.sweep.pass.take().unwrap_or((view.compacted, Bytes::new()));
    let mut batch = Batch::default();
    let next = remove_dead(&mut view, target, &start, budget.max(1), &mut batch);
    if next.is_none() {
        batch.put(Column::Meta, SWEPT_KEY, target.to_be_bytes().to_vec());
    }
    finish_step(shared, &mut writer, view, target, next, batch)
}

fn finish_step(
    shared: &Shared,
    writer: &mut Writer,
    view: View,
    target: i64,
    next: Option<Bytes>,
    batch: Batch,
) -> Result<bool, MvccError> {
    if !batch.is_empty() {
        shared.write(writer, batch)?;
    }
    match next {
        Some(key) => writer.sweep.pass = Some((target, key)),
        None => {
            writer.sweep.swept = target;
            shared.refresh_size()?;
        }
    }
    let pending = writer.sweep.is_pending(&view);
    shared.publish(view);
    Ok(pending)
}

/// Returns the key to go on with, or `None` at the end of the index.
fn remove_dead(view: &mut View, target: i64, start: &[u8], budget: usize, batch: &mut Batch) -> Option<Bytes> {
    let mut keys: Vec<(Bytes, bool)> = view
        .index
        .histories(start, budget.saturating_add(1))
        .map(|(key, history)| (key.clone(), history.has_dead(target)))
        .collect();
    let mut next = if keys.len() > budget { keys.pop().map(|(key, _)| key) } else { None };
    let mut left = budget;
    for (key, has_dead) in keys {
        if !has_dead {
            continue;
        }
        if left == 0 {
            return Some(key);
        }
        let removed = view.index.compact(&key, target, left);
        for at in &removed {
            batch.delete(Column::Revisions, record::revision_key(view.generation, *at));
        }
        if removed.len() == left && view.index.history(&key).is_some_and(|history| history.has_dead(target)) {
            next = Some(key);
            break;
        }
        left -= removed.len();
    }
    // A key that has vanished meanwhile is no problem: the pass goes on after it.
    next.map(|key| if view.index.history(&key).is_some() { key } else { load::after(&key) })
}
