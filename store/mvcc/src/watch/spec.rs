use bytes::Bytes;
use keelstone_etcd_api::mvccpb;

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchSpec {
    pub key: Bytes,
    /// As in a range request: empty = the key alone, one zero byte = to the last key.
    pub range_end: Bytes,
    /// The first revision of interest; 0 = those after now. May lie in the future.
    pub start_revision: i64,
    /// Fill in the value before each event. If it was compacted, the watch ends as compacted.
    pub prev_kv: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletes.
    pub no_delete: bool,
}

/// What a watcher hands out, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchBatch {
    /// All events of interest of whole revisions, up to and including `revision`.
    Events { revision: i64, events: Vec<mvccpb::Event> },
    /// The answer to [`Watcher::request_progress`](super::Watcher::request_progress): everything up to
    /// `revision` was handed out.
    Progress { revision: i64 },
    /// The watch has ended: revisions that it still had to read were compacted. It may start again after
    /// `compact_revision`.
    Compacted { compact_revision: i64 },
}
