use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use keelstone_etcd_api::{
    mvccpb,
    pb::{
        self,
        range_request::{SortOrder, SortTarget},
    },
    ApiError,
};

use crate::{
    constants::STREAM_PAGE_KEYS,
    index::Version,
    load,
    read::{self, ReadError},
    view::View,
    RangeBounds,
};

/// A range that is read a chunk at a time, from one moment of the store whatever happens meanwhile. The chunks
/// merged are what one [`Mvcc::range`](crate::Mvcc::range) would have answered.
pub struct RangeChunks {
    view: Arc<View>,
    request: pb::RangeRequest,
    /// The revision that is read.
    at: i64,
    /// What of the range was not looked at yet.
    rest: Option<RangeBounds>,
    /// Keys found, whose values were not read yet.
    found: VecDeque<(Bytes, Version)>,
    /// Keys that the limit still allows.
    left: usize,
    count: i64,
    ended: bool,
}

impl RangeChunks {
    /// # Errors
    /// As a range. Orders and filters are the caller's to refuse ([`RangeChunks::is_supported`]).
    pub(crate) fn new(view: Arc<View>, request: pb::RangeRequest) -> Result<Self, ApiError> {
        if view.is_corrupt() {
            return Err(ApiError::Corrupt);
        }
        read::check_revision(view.compacted, view.revision, request.revision)?;
        let at = if request.revision > 0 { request.revision } else { view.revision };
        let bounds = RangeBounds::new(&request.key, &request.range_end);
        let count = view.index().count(&bounds, at).map_err(|error| ReadError::from(error).into_api())?;
        let left = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let rest = Some(bounds).filter(|_| !request.count_only);
        Ok(Self { view, request, at, rest, found: VecDeque::new(), left, count, ended: false })
    }

    /// Whether a request can be answered in chunks: in key order, without limits on revisions.
    pub fn is_supported(request: &pb::RangeRequest) -> bool {
        let in_key_order =
            request.sort_target == SortTarget::Key as i32 && request.sort_order != SortOrder::Descend as i32;
        in_key_order && !read::has_filters(request)
    }

    /// The next chunk, of about `bytes_max` and at least one key; the last one, which may be empty, has header,
    /// count and `more`. `None` after it. Blocks.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<pb::RangeResponse>, ApiError> {
        if self.ended {
            return Ok(None);
        }
        self.chunk(bytes_max).map(Some).map_err(ReadError::into_api)
    }

    fn chunk(&mut self, bytes_max: usize) -> Result<pb::RangeResponse, ReadError> {
        let mut chunk = pb::RangeResponse::default();
        let mut left = bytes_max;
        while left > 0 {
            self.fill()?;
            if self.found.is_empty() {
                self.ended = true;
                chunk.header = Some(read::header(self.view.revision));
                chunk.count = self.count;
                chunk.more = self.request.limit > 0 && self.count > self.request.limit && !self.request.count_only;
                break;
            }
            let keys = read::fitting(&self.found, left).min(self.found.len());
            let page: Vec<_> = self.found.drain(..keys).collect();
            let bytes: usize = page.iter().map(|(_, version)| version.bytes as usize).sum();
            chunk.kvs.extend(self.read(page)?);
            left = if self.found.is_empty() { left.saturating_sub(bytes) } else { 0 };
        }
        Ok(chunk)
    }

    fn read(&self, page: Vec<(Bytes, Version)>) -> Result<Vec<mvccpb::KeyValue>, ReadError> {
        if self.request.keys_only {
            return Ok(page.into_iter().map(|(key, version)| read::key_only(key, version)).collect());
        }
        read::values(self.view.index(), &page, &mut |_| Ok(()))
    }

    /// Finds the next keys if none are at hand.
    fn fill(&mut self) -> Result<(), ReadError> {
        if !self.found.is_empty() || self.left == 0 {
            return Ok(());
        }
        let Some(bounds) = self.rest.take() else { return Ok(()) };
        let wanted = self.left.min(STREAM_PAGE_KEYS);
        let page = self.view.index().page(&bounds, self.at, wanted)?;
        if page.len() == wanted {
            self.rest = page.last().and_then(|(last, _)| bounds.after(load::after(last)));
        }
        self.left -= page.len();
        self.found = page.into();
        Ok(())
    }
}
