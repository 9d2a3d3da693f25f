use bytes::Bytes;
use keelstone_env::fault::{self, Point};
use keelstone_etcd_api::{pb, ApiError};
use keelstone_machinery::status::{ApiResult, ApiStatus};

use crate::{
    access::{prefix_end, revision_of, Deadline},
    constants::RANGE_PAGE_KEYS_MAX,
    continue_token::ContinueToken,
    error::{too_large_resource_version, StoreError},
    etcd::range_error,
    EtcdStorage, Freshness, ListOptions, ListPage, StoredObject,
};

/// Lists one page: all range calls after the first are at the first one's revision.
pub async fn list(storage: &EtcdStorage, prefix: &str, options: &ListOptions) -> ApiResult<ListPage> {
    let deadline = storage.access.deadline();
    if let Some(key) = options.predicate.key().filter(|_| options.continue_token.is_empty()) {
        return list_one(storage, deadline, prefix, key, options).await;
    }
    let mut reader = Reader::start(storage, deadline, prefix, options)?;
    let mut page = ListPage::default();
    loop {
        let answer = reader.next_range(options, page.objects.len()).await?;
        let count = answer.count;
        let mut used: i64 = 0;
        for kv in &answer.kvs {
            used += 1;
            let object = storage.config.decode(&storage.root, kv)?;
            if options.predicate.matches(object.value()) {
                page.objects.push(object);
            }
            if options.limit > 0 && page.objects.len() == options.limit {
                break;
            }
        }
        page.revision = reader.revision;
        let full = options.limit > 0 && page.objects.len() == options.limit;
        let left = count - used;
        if left <= 0 || answer.kvs.is_empty() {
            return Ok(page);
        }
        let last = answer.kvs.get(usize::try_from(used - 1).unwrap_or(0)).map(|kv| kv.key.clone()).unwrap_or_default();
        if full {
            let last = String::from_utf8_lossy(&last).into_owned();
            let relative = last.strip_prefix(&reader.root).unwrap_or(&last);
            page.continue_token = ContinueToken::after(reader.revision, relative).encode();
            page.remaining = options.predicate.is_everything().then_some(left);
            return Ok(page);
        }
        reader.go_on_after(&last);
    }
}

/// A list that can contain one object only.
async fn list_one(
    storage: &EtcdStorage,
    deadline: Deadline,
    prefix: &str,
    key: &str,
    options: &ListOptions,
) -> ApiResult<ListPage> {
    let full_key = format!("{}{key}", storage.root);
    let mut request = pb::RangeRequest { key: Bytes::from(full_key), limit: 1, ..Default::default() };
    apply_freshness(&mut request, options.freshness);
    let wanted = request.revision;
    let answer = storage.access.range(deadline, request).await.map_err(|e| range_error(e, wanted, 0))?;
    let revision = revision_of(&answer.header);
    check_not_older(options.freshness, revision)?;
    let mut page = ListPage { revision: if wanted > 0 { wanted } else { revision }, ..ListPage::default() };
    for kv in &answer.kvs {
        let object: StoredObject = storage.config.decode(&storage.root, kv)?;
        if object.key().starts_with(prefix) && options.predicate.matches(object.value()) {
            page.objects.push(object);
        }
    }
    Ok(page)
}

fn apply_freshness(request: &mut pb::RangeRequest, freshness: Freshness) {
    match freshness {
        Freshness::Any => request.serializable = true,
        Freshness::Exact(revision) => request.revision = revision,
        Freshness::Latest | Freshness::NotOlderThan(_) => {}
    }
}

fn check_not_older(freshness: Freshness, revision: i64) -> ApiResult<()> {
    match freshness {
        Freshness::NotOlderThan(wanted) if revision < wanted => Err(too_large_resource_version(wanted, revision)),
        _ => Ok(()),
    }
}

/// Reads the keys of a prefix in ranges, all at one revision.
struct Reader<'a> {
    storage: &'a EtcdStorage,
    deadline: Deadline,
    /// The full prefix.
    root: String,
    start: Bytes,
    /// 0 until the first answer, unless the request names it.
    revision: i64,
    /// The request came with a continue token.
    continued: bool,
}

impl<'a> Reader<'a> {
    fn start(storage: &'a EtcdStorage, deadline: Deadline, prefix: &str, options: &ListOptions) -> ApiResult<Self> {
        let root = format!("{}{prefix}", storage.root);
        let mut reader =
            Self { storage, deadline, start: Bytes::from(root.clone()), root, revision: 0, continued: false };
        if !options.continue_token.is_empty() {
            let token = ContinueToken::decode(&options.continue_token)?;
            reader.start = Bytes::from(format!("{}{}", reader.root, token.start));
            reader.revision = token.revision.max(0);
            reader.continued = true;
        } else if let Freshness::Exact(revision) = options.freshness {
            reader.revision = revision;
        }
        Ok(reader)
    }

    async fn next_range(&mut self, options: &ListOptions, found: usize) -> ApiResult<pb::RangeResponse> {
        let wanted = i64::try_from(options.limit.saturating_sub(found)).unwrap_or(i64::MAX);
        let mut limit = if options.limit > 0 { wanted.min(RANGE_PAGE_KEYS_MAX) } else { RANGE_PAGE_KEYS_MAX };
        if !options.predicate.is_everything() {
            limit = RANGE_PAGE_KEYS_MAX;
        }
        let first = self.revision == 0;
        let mut request = pb::RangeRequest {
            key: self.start.clone(),
            range_end: prefix_end(&self.root),
            limit,
            revision: self.revision,
            ..Default::default()
        };
        if first && !self.continued {
            apply_freshness(&mut request, options.freshness);
        }
        fault::pause(Point::StoragePage).await;
        let answer = match self.storage.access.range(self.deadline, request).await {
            Ok(answer) => answer,
            Err(StoreError::Refused(ApiError::Compacted)) if self.continued => {
                return Err(self.expired_continue());
            }
            Err(error) => return Err(range_error(error, self.revision, 0)),
        };
        if first {
            self.revision = revision_of(&answer.header);
            if !self.continued {
                check_not_older(options.freshness, self.revision)?;
            }
        }
        Ok(answer)
    }

    /// 410 with a token that goes on from the same key in whatever is the newest state then.
    fn expired_continue(&self) -> ApiStatus {
        let start = String::from_utf8_lossy(&self.start).into_owned();
        let relative = start.strip_prefix(&self.root).unwrap_or(&start).to_owned();
        let token = ContinueToken { revision: ContinueToken::INCONSISTENT, start: relative };
        ApiStatus::resource_expired_continue(Some(&token.encode()))
    }

    fn go_on_after(&mut self, last: &[u8]) {
        let mut next = last.to_vec();
        next.push(0);
        self.start = Bytes::from(next);
    }
}
