//! Reads events from the store, for a watcher that has fallen out of the window.

use bytes::Bytes;
use keelstone_engine::{Column, Direction, RangeRequest};
use keelstone_env::bug::{self, Bug};
use keelstone_etcd_api::mvccpb::{self, event::EventType};

use super::event::{Change, Filter, Prev};
use crate::{
    constants::WATCH_BATCH_BYTES_MAX,
    load,
    record::{self, Revision},
    shared::Shared,
    view::View,
    MvccError,
};

/// Pages read in one go at most, so that a watcher that finds little still gives way.
const PAGES_MAX: usize = 16;

/// Events of interest of all revisions up to `upto`, or the compacted revision that made that impossible.
pub enum CaughtUp {
    Events { upto: i64, events: Vec<mvccpb::Event> },
    Compacted { compact_revision: i64 },
}

/// Reads whole revisions from `from` on, up to `upto` at most, from one view of the store.
pub fn read(shared: &Shared, filter: &Filter, from: i64, upto: i64, events_max: usize) -> Result<CaughtUp, MvccError> {
    let view = shared.view();
    let from = if bug::planted(Bug::SlowWatcherSkips) { from.max(view.compacted) } else { from };
    if view.compacted > from {
        return Ok(CaughtUp::Compacted { compact_revision: view.compacted });
    }
    let found = Scan::new(&view, filter, events_max).run(from, upto)?;
    Ok(match found {
        Some((upto, events)) => CaughtUp::Events { upto, events },
        // The value before an event at the compacted revision itself: the event cannot be told whole.
        None => CaughtUp::Compacted { compact_revision: view.compacted },
    })
}

struct Scan<'a> {
    view: &'a View,
    filter: &'a Filter,
    events_max: usize,
    /// Events, each with its revision.
    events: Vec<(i64, mvccpb::Event)>,
    bytes: usize,
}

impl<'a> Scan<'a> {
    fn new(view: &'a View, filter: &'a Filter, events_max: usize) -> Self {
        Self { view, filter, events_max, events: Vec::new(), bytes: 0 }
    }

    /// `None` if a value before an event was compacted.
    fn run(mut self, from: i64, upto: i64) -> Result<Option<(i64, Vec<mvccpb::Event>)>, MvccError> {
        let key = |main| record::revision_key(self.view.generation, Revision { main, sub: 0 });
        let mut request = RangeRequest {
            column: Column::Revisions,
            start: key(from),
            end: Some(key(upto + 1)),
            direction: Direction::Ascending,
            limit: self.events_max.max(2),
        };
        for pages in 1.. {
            let page = self.view.snapshot.range(&request)?;
            let Some((last, _)) = page.pairs.last() else { break };
            let last_main = record::parse_revision_key(last)?.main;
            request.start = load::after(last);
            for (key, value) in page.pairs {
                let at = record::parse_revision_key(&key)?;
                let enough = self.events.len() >= self.events_max || self.bytes >= WATCH_BATCH_BYTES_MAX;
                if enough && self.events.last().is_some_and(|(main, _)| *main < at.main) {
                    return Ok(Some((at.main - 1, self.into_events())));
                }
                if !self.look_at(at, value)? {
                    return Ok(None);
                }
            }
            // The last revision of a page may go on in the next one.
            if page.more && pages >= PAGES_MAX && last_main > from {
                self.events.retain(|(main, _)| *main < last_main);
                return Ok(Some((last_main - 1, self.into_events())));
            }
            if !page.more {
                break;
            }
        }
        Ok(Some((upto, self.into_events())))
    }

    fn into_events(self) -> Vec<mvccpb::Event> {
        self.events.into_iter().map(|(_, event)| event).collect()
    }

    /// False if the value before was compacted.
    fn look_at(&mut self, at: Revision, record: Bytes) -> Result<bool, MvccError> {
        let kv = record::decode_kv(record)?;
        let kind = if kv.version == 0 { EventType::Delete } else { EventType::Put };
        if !self.filter.passes(kind, &kv.key) {
            return Ok(true);
        }
        self.bytes += kv.key.len() + kv.value.len();
        let index = self.view.index();
        let mut prev = Prev::None;
        if self.filter.prev_kv() && kv.version != 1 {
            match index.before(&kv.key, at)?.filter(|version| !version.is_tombstone()) {
                Some(version) => prev = Prev::At(version.at),
                None => return Ok(false),
            }
        }
        let Some(event) = self.filter.event(&Change { kind, kv, prev }, index)? else { return Ok(false) };
        self.events.push((at.main, event));
        Ok(true)
    }
}
