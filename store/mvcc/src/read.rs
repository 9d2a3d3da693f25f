//! Range reads, with etcd's options and their quirks.

use std::cmp::Ordering;

use bytes::Bytes;
use keelstone_engine::EngineError;
use keelstone_etcd_api::{
    mvccpb,
    pb::{
        self,
        range_request::{SortOrder, SortTarget},
    },
    ApiError,
};

use crate::{
    index::Version,
    record::{self, Revision},
    view::View,
    MvccError, RangeBounds,
};

/// Where the values are.
pub trait Values {
    /// The record written at `at`; `None` if it was compacted or replaced since.
    fn record(&self, at: Revision) -> Result<Option<Bytes>, EngineError>;
}

#[derive(Debug)]
pub enum ReadError {
    Api(ApiError),
    /// A value is gone: the view is too old.
    Stale,
    Failed(MvccError),
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<MvccError> for ReadError {
    fn from(error: MvccError) -> Self {
        Self::Failed(error)
    }
}

/// The key-value written at `version`.
pub fn kv(values: &dyn Values, version: Version) -> Result<mvccpb::KeyValue, ReadError> {
    let record = values.record(version.at)?.ok_or(ReadError::Stale)?;
    Ok(record::decode_kv(record)?)
}

/// Reads a range as of `current`, which is the view's revision or, inside a txn that has changed something,
/// the revision that it is making.
pub fn range(
    view: &View,
    values: &dyn Values,
    current: i64,
    request: &pb::RangeRequest,
) -> Result<pb::RangeResponse, ReadError> {
    check_revision(view, current, request.revision).map_err(ReadError::Api)?;
    let at = if request.revision > 0 { request.revision } else { current };
    let bounds = RangeBounds::new(&request.key, &request.range_end);
    let header = Some(header(current));
    if request.count_only {
        let count = view.index.range(&bounds, at).count() as i64;
        return Ok(pb::RangeResponse { header, count, ..Default::default() });
    }
    let (mut found, count) = candidates(view, &bounds, at, request);
    let mut kvs = Vec::new();
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    if sorts_by_value(request) {
        for (_, version) in &found {
            kvs.push(kv(values, *version)?);
        }
        sort_by(&mut kvs, request, |a, b| a.value.cmp(&b.value));
        kvs.truncate(limit);
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
    } else {
        sort_by(&mut found, request, |a, b| compare(a, b, request));
        found.truncate(limit);
        kvs.reserve_exact(found.len());
        for (key, version) in found {
            kvs.push(if request.keys_only { key_only(key, version) } else { kv(values, version)? });
        }
    }
    Ok(pb::RangeResponse { header, kvs, more, count })
}

/// Whether `revision` (0 or less = current) can be read.
pub fn check_revision(view: &View, current: i64, revision: i64) -> Result<(), ApiError> {
    if revision > current {
        return Err(ApiError::FutureRevision);
    }
    if revision > 0 && revision < view.compacted {
        return Err(ApiError::Compacted);
    }
    Ok(())
}

pub fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { revision, ..Default::default() }
}

/// The versions to sort and cut, and how many keys the range holds at all. As in etcd, the count ignores limit
/// and filters, and without an order one more than the limit is taken before any sorting.
fn candidates<'a>(
    view: &'a View,
    bounds: &RangeBounds,
    at: i64,
    request: &pb::RangeRequest,
) -> (Vec<(&'a Bytes, Version)>, i64) {
    let takes_all = request.limit <= 0
        || request.sort_order != SortOrder::None as i32
        || request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    let take_max = if takes_all { i64::MAX } else { request.limit.saturating_add(1) };
    let mut found = Vec::new();
    let mut count = 0;
    for (key, version) in view.index.range(bounds, at) {
        count += 1;
        if count <= take_max && passes(version, request) {
            found.push((key, version));
        }
    }
    (found, count)
}

fn passes(version: Version, request: &pb::RangeRequest) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(version.at.main, request.min_mod_revision, request.max_mod_revision)
        && within(version.create, request.min_create_revision, request.max_create_revision)
}

fn sorts_by_value(request: &pb::RangeRequest) -> bool {
    request.sort_target == SortTarget::Value as i32
}

fn compare(a: &(&Bytes, Version), b: &(&Bytes, Version), request: &pb::RangeRequest) -> Ordering {
    match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => a.1.version.cmp(&b.1.version),
        Ok(SortTarget::Create) => a.1.create.cmp(&b.1.create),
        Ok(SortTarget::Mod) => a.1.at.main.cmp(&b.1.at.main),
        _ => a.0.cmp(b.0),
    }
}

/// Sorts if the request asks for it; a target other than the key alone means ascending.
fn sort_by<T>(items: &mut [T], request: &pb::RangeRequest, compare: impl Fn(&T, &T) -> Ordering) {
    let by_key = request.sort_target == SortTarget::Key as i32;
    match SortOrder::try_from(request.sort_order) {
        Ok(SortOrder::Descend) => items.sort_by(|a, b| compare(b, a)),
        Ok(SortOrder::None | SortOrder::Ascend) if !by_key => items.sort_by(compare),
        // The index is in key order.
        _ => {}
    }
}

fn key_only(key: &Bytes, version: Version) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: key.clone(),
        create_revision: version.create,
        mod_revision: version.at.main,
        version: version.version,
        lease: version.lease,
        value: Bytes::new(),
    }
}
