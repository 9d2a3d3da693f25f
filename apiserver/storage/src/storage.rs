use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use keelstone_machinery::{
    gvk::GroupResource,
    status::{ApiResult, ApiStatus},
};
use serde_json::Value;

use crate::{Predicate, StoredObject};

/// How fresh a read must be: `resourceVersion` and `resourceVersionMatch` as the registry understood them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// resourceVersion unset: at least as fresh as every write that was acknowledged before the read.
    #[default]
    Latest,
    /// resourceVersion=0: whatever is at hand, also without a quorum.
    Any,
    /// Not older than this resourceVersion.
    NotOlderThan(i64),
    /// Exactly at this resourceVersion (lists only).
    Exact(i64),
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub freshness: Freshness,
    /// 0 is unlimited.
    pub limit: usize,
    /// The `continue` token of the page before; empty for the first page.
    pub continue_token: String,
    pub predicate: Predicate,
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatchStart {
    /// resourceVersion unset: the current state as ADDED events, then changes.
    #[default]
    StateLatest,
    /// resourceVersion=0: the same from a state that may be old.
    StateAny,
    /// sendInitialEvents=true: a state not older than this (0: any), then the bookmark that says it is complete,
    /// then changes. `None`: the latest state.
    StateThenBookmark(Option<i64>),
    /// Only changes after this resourceVersion.
    After(i64),
    /// sendInitialEvents=false without a resourceVersion: only changes from now on.
    Now,
}

#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub start: WatchStart,
    pub predicate: Predicate,
    pub bookmarks: bool,
    /// The stream ends after this time; `None`: never by itself.
    pub timeout: Option<Duration>,
}

/// One event of a watch, in revision order.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(StoredObject),
    Modified(StoredObject),
    /// The last state that the watcher could see, at the revision of its deletion (or of its leaving the
    /// selector).
    Deleted(StoredObject),
    /// Everything up to `revision` has been delivered. With `initial_events_end` it is the annotated bookmark
    /// that ends the initial state.
    Bookmark {
        revision: i64,
        initial_events_end: bool,
    },
    /// Ends the stream.
    Error(ApiStatus),
}

pub type WatchEvents = Pin<Box<dyn Stream<Item = WatchEvent> + Send>>;

/// One page of a list: a consistent snapshot at `revision`.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    pub objects: Vec<StoredObject>,
    pub revision: i64,
    /// Empty if this is the last page.
    pub continue_token: String,
    /// How many objects follow this page; unknown (`None`) with a selector.
    pub remaining: Option<i64>,
}

impl ListPage {
    /// The list as JSON, made by joining the objects' encoded forms.
    pub fn to_json(&self, api_version: &str, list_kind: &str) -> Bytes {
        let mut metadata = serde_json::Map::new();
        metadata.insert("resourceVersion".into(), self.revision.to_string().into());
        if !self.continue_token.is_empty() {
            metadata.insert("continue".into(), self.continue_token.clone().into());
            if let Some(remaining) = self.remaining {
                metadata.insert("remainingItemCount".into(), remaining.into());
            }
        }
        let head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
            Value::from(list_kind),
            Value::from(api_version),
            Value::Object(metadata)
        );
        let size = head.len() + 2 + self.objects.iter().map(|o| o.json().len() + 1).sum::<usize>();
        let mut out = BytesMut::with_capacity(size);
        out.put_slice(head.as_bytes());
        for (i, object) in self.objects.iter().enumerate() {
            if i > 0 {
                out.put_u8(b',');
            }
            out.put_slice(object.json());
        }
        out.put_slice(b"]}");
        out.freeze()
    }
}

/// What must hold of the stored object for a write to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// What an [`Update`] decided.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Store this. `ttl_s` in seconds; `None`: for ever.
    Write { object: Value, ttl_s: Option<i64> },
    /// Remove the object; nothing happens if there is none.
    Delete,
    /// Leave everything as it is.
    Keep,
}

/// One step of a compare-and-set loop. Called again with the newer state when another write came between, so
/// it must not remember what it decided before.
#[async_trait]
pub trait Update: Send {
    /// `current` is `None` if there is no such object.
    async fn update(&mut self, current: Option<&StoredObject>) -> ApiResult<Verdict>;
}

/// What a write left behind.
#[derive(Clone, Debug)]
pub enum Outcome {
    Created(StoredObject),
    Updated(StoredObject),
    /// The object before its removal, at the revision of the removal.
    Deleted(StoredObject),
    /// Nothing was written: the verdict was `Keep`, or the new object equals the stored one.
    Unchanged(Option<StoredObject>),
}

impl Outcome {
    pub fn into_object(self) -> Option<StoredObject> {
        match self {
            Self::Created(o) | Self::Updated(o) | Self::Deleted(o) => Some(o),
            Self::Unchanged(o) => o,
        }
    }
}

/// The objects of one resource. Keys are relative to it: `namespace/name`, or `name` for a resource of the
/// cluster; a prefix is empty or `namespace/`.
///
/// Every call ends within [`crate::constants::OPERATION_TIMEOUT`]: without a quorum in a 503 or 504 that says so.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// What error messages call the objects.
    fn group_resource(&self) -> &GroupResource;

    /// # Errors
    /// 409 AlreadyExists.
    async fn create(&self, key: &str, object: Value, ttl_s: Option<i64>, dry_run: bool) -> ApiResult<StoredObject>;

    /// # Errors
    /// 404; 504 if a resourceVersion lies in the future.
    async fn get(&self, key: &str, freshness: Freshness) -> ApiResult<StoredObject>;

    /// # Errors
    /// 410 if the snapshot has been compacted; 400 for a bad continue token.
    async fn list(&self, prefix: &str, options: ListOptions) -> ApiResult<ListPage>;

    /// # Errors
    /// 410 if the start has been compacted (also possible as an event).
    async fn watch(&self, prefix: &str, options: WatchOptions) -> ApiResult<WatchEvents>;

    /// Compare-and-set in a loop: creates, changes or deletes as `update` decides.
    ///
    /// # Errors
    /// 409 if a precondition does not hold; what `update` returns.
    async fn update(
        &self,
        key: &str,
        preconditions: &Preconditions,
        update: &mut dyn Update,
        dry_run: bool,
    ) -> ApiResult<Outcome>;

    /// The store's current revision, confirmed by a quorum.
    async fn revision(&self) -> ApiResult<i64>;
}
