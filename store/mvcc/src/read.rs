//! Range reads, with etcd's options and their quirks.

use std::cmp::Ordering;

use bytes::Bytes;
use keelstone_engine::{Column, EngineError};
use keelstone_etcd_api::{
    mvccpb,
    pb::{
        self,
        range_request::{SortOrder, SortTarget},
    },
    ApiError,
};

use crate::{
    constants::{RANGE_KEY_OVERHEAD_BYTES, VALUES_PAGE, VALUES_PAGE_BYTES},
    index::{Index, Version},
    record::{self, Revision},
    MvccError, RangeBounds,
};

/// Asked before an answer grows by so many bytes; an error ends the read.
pub type Admit<'a> = &'a mut dyn FnMut(usize) -> Result<(), ApiError>;

#[derive(Debug)]
pub enum ReadError {
    Api(ApiError),
    Failed(MvccError),
}

impl ReadError {
    pub fn into_api(self) -> ApiError {
        match self {
            Self::Api(error) => error,
            Self::Failed(error) => {
                tracing::error!(%error, "store read failed");
                ApiError::Corrupt
            }
        }
    }
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

impl From<ApiError> for ReadError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// The key-value of `key` written at `at`; `None` if compaction has removed it.
pub fn find_kv(index: Index<'_>, key: &[u8], at: Revision) -> Result<Option<mvccpb::KeyValue>, MvccError> {
    let record = match index.recent_record(key, at) {
        Some(record) => Some(record),
        None => index.rows.get(Column::Revisions, &record::revision_key(index.generation, at))?,
    };
    record.map(record::decode_kv).transpose()
}

/// The key-value of a version that the index knows.
pub fn kv(index: Index<'_>, key: &[u8], version: Version) -> Result<mvccpb::KeyValue, MvccError> {
    find_kv(index, key, version.at)?.ok_or_else(missing)
}

fn missing() -> MvccError {
    MvccError::Corrupt("a value that should exist is missing".to_owned())
}

/// Reads a range as of the index's revision or the requested one. Not for requests whose revision is compacted.
pub fn range(
    index: Index<'_>,
    compacted: i64,
    request: &pb::RangeRequest,
    admit: Admit<'_>,
) -> Result<pb::RangeResponse, ReadError> {
    check_revision(compacted, index.revision, request.revision)?;
    let at = if request.revision > 0 { request.revision } else { index.revision };
    let bounds = RangeBounds::new(&request.key, &request.range_end);
    let header = Some(header(index.revision));
    if request.count_only {
        return Ok(pb::RangeResponse { header, count: index.count(&bounds, at)?, ..Default::default() });
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    // As in etcd, the count ignores limit and filters, and without an order one more than the limit is taken
    // before any sorting.
    let wanted = if takes_all(request) { usize::MAX } else { limit.saturating_add(1) };
    admit_keys(index, &bounds, at, wanted, admit)?;
    let mut found = index.page(&bounds, at, wanted)?;
    let count = if found.len() < wanted { whole(found.len()) } else { index.count(&bounds, at)? };
    found.retain(|(_, version)| passes(*version, request));
    let more = found.len() > limit;
    let kvs = if request.sort_target == SortTarget::Value as i32 {
        let mut kvs = values(index, &found, admit)?;
        sort_by(&mut kvs, request, |a, b| a.value.cmp(&b.value));
        kvs.truncate(limit);
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        kvs
    } else {
        sort_by(&mut found, request, |a, b| compare(a, b, request));
        found.truncate(limit);
        if request.keys_only {
            found.into_iter().map(|(key, version)| key_only(key, version)).collect()
        } else {
            values(index, &found, admit)?
        }
    };
    Ok(pb::RangeResponse { header, kvs, more, count })
}

/// Takes room for the keys that a range may find.
fn admit_keys(
    index: Index<'_>,
    bounds: &RangeBounds,
    at: i64,
    wanted: usize,
    admit: Admit<'_>,
) -> Result<(), ReadError> {
    let keys = match bounds {
        RangeBounds::Key(_) => 1,
        _ if wanted <= VALUES_PAGE => wanted,
        _ => usize::try_from(index.count(bounds, at)?).unwrap_or(0).min(wanted),
    };
    Ok(admit(keys.saturating_mul(RANGE_KEY_OVERHEAD_BYTES))?)
}

/// The key-values of versions, read some at a time, once room is taken for all of them.
pub fn values(
    index: Index<'_>,
    found: &[(Bytes, Version)],
    admit: Admit<'_>,
) -> Result<Vec<mvccpb::KeyValue>, ReadError> {
    admit(found.iter().map(|(_, version)| version.bytes as usize).sum())?;
    let mut kvs = Vec::with_capacity(found.len());
    let mut rest = found;
    while !rest.is_empty() {
        let (page, next) = rest.split_at(fitting(rest, VALUES_PAGE_BYTES).min(VALUES_PAGE));
        rest = next;
        for record in records(index, page)? {
            kvs.push(record::decode_kv(record)?);
        }
    }
    Ok(kvs)
}

/// The records of some versions: those that are remembered, and all others in one go.
fn records(index: Index<'_>, page: &[(Bytes, Version)]) -> Result<Vec<Bytes>, ReadError> {
    let known: Vec<_> = page.iter().map(|(key, version)| index.recent_record(key, version.at)).collect();
    let unknown = page.iter().zip(&known).filter(|(_, known)| known.is_none());
    let keys: Vec<_> = unknown.map(|((_, version), _)| record::revision_key(index.generation, version.at)).collect();
    let mut found = match keys.is_empty() {
        true => Vec::new(),
        false => index.rows.get_many(Column::Revisions, &keys)?,
    }
    .into_iter();
    let record = |known: Option<Bytes>| match known {
        Some(record) => Ok(record),
        None => found.next().flatten().ok_or_else(|| missing().into()),
    };
    known.into_iter().map(record).collect()
}

/// How many of the first versions' records are about `bytes_max` together; at least one.
pub fn fitting<'a>(found: impl IntoIterator<Item = &'a (Bytes, Version)>, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = found.into_iter().take_while(|(_, version)| {
        bytes += version.bytes as usize;
        bytes <= bytes_max
    });
    fits.count().max(1)
}

/// Whether `revision` (0 or less = current) can be read.
pub fn check_revision(compacted: i64, current: i64, revision: i64) -> Result<(), ApiError> {
    if revision > current {
        return Err(ApiError::FutureRevision);
    }
    if revision > 0 && revision < compacted {
        return Err(ApiError::Compacted);
    }
    Ok(())
}

pub fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { revision, ..Default::default() }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn takes_all(request: &pb::RangeRequest) -> bool {
    request.limit <= 0 || request.sort_order != SortOrder::None as i32 || has_filters(request)
}

/// Whether a range is limited to some revisions.
pub fn has_filters(request: &pb::RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(version: Version, request: &pb::RangeRequest) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(version.at.main, request.min_mod_revision, request.max_mod_revision)
        && within(version.create, request.min_create_revision, request.max_create_revision)
}

fn compare(a: &(Bytes, Version), b: &(Bytes, Version), request: &pb::RangeRequest) -> Ordering {
    match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => a.1.version.cmp(&b.1.version),
        Ok(SortTarget::Create) => a.1.create.cmp(&b.1.create),
        Ok(SortTarget::Mod) => a.1.at.main.cmp(&b.1.at.main),
        _ => a.0.cmp(&b.0),
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

pub fn key_only(key: Bytes, version: Version) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key,
        create_revision: version.create,
        mod_revision: version.at.main,
        version: version.version,
        lease: version.lease,
        value: Bytes::new(),
    }
}
