use keelstone_etcd_api::mvccpb::{self, event::EventType};

use super::WatchSpec;
use crate::{index::Index, read, record::Revision, MvccError, RangeBounds};

/// All changes of one revision, in order.
pub struct RevisionEvents {
    pub revision: i64,
    pub changes: Vec<Change>,
}

/// One change, for all watchers.
pub struct Change {
    pub kind: EventType,
    pub kv: mvccpb::KeyValue,
    pub prev: Prev,
}

/// The key-value before a change.
pub enum Prev {
    /// The key did not exist.
    None,
    At(Revision),
    Known(mvccpb::KeyValue),
}

/// What a watcher lets through.
pub struct Filter {
    bounds: RangeBounds,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
}

impl Filter {
    pub fn new(spec: &WatchSpec) -> Self {
        let bounds = RangeBounds::new(&spec.key, &spec.range_end);
        Self { bounds, no_put: spec.no_put, no_delete: spec.no_delete, prev_kv: spec.prev_kv }
    }

    pub fn bounds(&self) -> &RangeBounds {
        &self.bounds
    }

    pub fn prev_kv(&self) -> bool {
        self.prev_kv
    }

    pub fn passes(&self, kind: EventType, key: &[u8]) -> bool {
        let unwanted = match kind {
            EventType::Put => self.no_put,
            EventType::Delete => self.no_delete,
        };
        !unwanted && self.bounds.contains(key)
    }

    /// The event as this watcher wants it; `None` if the value before was compacted.
    pub fn event(&self, change: &Change, index: Index<'_>) -> Result<Option<mvccpb::Event>, MvccError> {
        let prev_kv = match &change.prev {
            Prev::At(at) if self.prev_kv => {
                let Some(kv) = read::find_kv(index, &change.kv.key, *at)? else { return Ok(None) };
                Some(kv)
            }
            Prev::Known(kv) if self.prev_kv => Some(kv.clone()),
            _ => None,
        };
        Ok(Some(mvccpb::Event { r#type: change.kind as i32, kv: Some(change.kv.clone()), prev_kv }))
    }
}
