//! Reads events from the store, for a watcher that has fallen out of the window.

use bytes::Bytes;
use keelstone_engine::{Column, Direction, RangeRequest};
use keelstone_etcd_api::mvccpb::{self, event::EventType};

use super::event::{Change, Filter, Prev};
use crate::{
    constants::WATCH_BATCH_BYTES_MAX,
    load,
    read::{ReadError, Values},
    record::{self, Revision},
    shared::{EngineValues, Shared},
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

/// Reads whole revisions from `from` on, up to `upto` at most.
pub fn read(shared: &Shared, filter: &Filter, from: i64, upto: i64, events_max: usize) -> Result<CaughtUp, MvccError> {
    loop {
        let view = shared.view();
        let result = Scan::new(shared, &view, filter, events_max).run(from, upto);
        // Data is removed only after its compaction can be seen here.
        let now = shared.view();
        if now.compacted > from {
            return Ok(CaughtUp::Compacted { compact_revision: now.compacted });
        }
        if now.generation != view.generation {
            continue;
        }
        return match result {
            Ok((upto, events)) => Ok(CaughtUp::Events { upto, events }),
            // The value before an event at the compacted revision itself: the event cannot be told whole.
            Err(ReadError::Stale) => Ok(CaughtUp::Compacted { compact_revision: now.compacted }),
            Err(ReadError::Failed(error)) => Err(error),
            Err(ReadError::Api(error)) => Err(MvccError::Corrupt(error.to_string())),
        };
    }
}

struct Scan<'a> {
    shared: &'a Shared,
    view: &'a View,
    values: EngineValues<'a>,
    filter: &'a Filter,
    events_max: usize,
    /// Events, each with its revision.
    events: Vec<(i64, mvccpb::Event)>,
    bytes: usize,
}

impl<'a> Scan<'a> {
    fn new(shared: &'a Shared, view: &'a View, filter: &'a Filter, events_max: usize) -> Self {
        let values = EngineValues { engine: &*shared.engine, generation: view.generation };
        Self { shared, view, values, filter, events_max, events: Vec::new(), bytes: 0 }
    }

    fn run(mut self, from: i64, upto: i64) -> Result<(i64, Vec<mvccpb::Event>), ReadError> {
        let key = |main| record::revision_key(self.view.generation, Revision { main, sub: 0 });
        let mut request = RangeRequest {
            column: Column::Revisions,
            start: key(from),
            end: Some(key(upto + 1)),
            direction: Direction::Ascending,
            limit: self.events_max.max(2),
        };
        for pages in 1.. {
            let page = self.shared.engine.range(&request)?;
            let Some((last, _)) = page.pairs.last() else { break };
            let last_main = record::parse_revision_key(last)?.main;
            request.start = load::after(last);
            for (key, value) in page.pairs {
                let at = record::parse_revision_key(&key)?;
                let enough = self.events.len() >= self.events_max || self.bytes >= WATCH_BATCH_BYTES_MAX;
                if enough && self.events.last().is_some_and(|(main, _)| *main < at.main) {
                    return Ok((at.main - 1, self.into_events()));
                }
                self.look_at(at, value)?;
            }
            // The last revision of a page may go on in the next one.
            if page.more && pages >= PAGES_MAX && last_main > from {
                self.events.retain(|(main, _)| *main < last_main);
                return Ok((last_main - 1, self.into_events()));
            }
            if !page.more {
                break;
            }
        }
        Ok((upto, self.into_events()))
    }

    fn into_events(self) -> Vec<mvccpb::Event> {
        self.events.into_iter().map(|(_, event)| event).collect()
    }

    fn look_at(&mut self, at: Revision, record: Bytes) -> Result<(), ReadError> {
        let kv = record::decode_kv(record)?;
        let kind = if kv.version == 0 { EventType::Delete } else { EventType::Put };
        if !self.filter.passes(kind, &kv.key) {
            return Ok(());
        }
        self.bytes += kv.key.len() + kv.value.len();
        let prev = if self.filter.prev_kv() && kv.version != 1 { self.prev(&kv.key, at)? } else { Prev::None };
        let event = self.filter.event(&Change { kind, kv, prev }, &self.values as &dyn Values)?;
        self.events.push((at.main, event));
        Ok(())
    }

    fn prev(&self, key: &[u8], at: Revision) -> Result<Prev, ReadError> {
        let before = self.view.index.history(key).and_then(|history| history.before(at));
        before.map(|version| Prev::At(version.at)).ok_or(ReadError::Stale)
    }
}
