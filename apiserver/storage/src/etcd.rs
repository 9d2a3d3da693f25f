use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use keelstone_etcd_api::{pb, ApiError};
use keelstone_machinery::{
    gvk::GroupResource,
    status::{ApiResult, ApiStatus},
};
use serde_json::Value;

use crate::{
    access::{revision_of, CasOutcome, Change as Write, Deadline, StoreAccess},
    constants::{OBJECT_BYTES_MAX, UPDATE_TRIES_MAX},
    envelope,
    error::{compacted_list, too_large_resource_version, StoreError},
    etcd_watch, Freshness, ListOptions, ListPage, Outcome, Preconditions, Storage, StorageConfig, StoredObject, Update,
    Verdict, WatchEvents, WatchOptions,
};

/// Storage that asks the store for everything.
pub struct EtcdStorage {
    pub(crate) access: Arc<StoreAccess>,
    pub(crate) config: StorageConfig,
    pub(crate) root: String,
}

impl EtcdStorage {
    pub fn new(access: Arc<StoreAccess>, config: StorageConfig) -> Self {
        let root = config.root();
        Self { access, config, root }
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// The object's name: what error messages show.
    fn name(key: &str) -> &str {
        key.rsplit('/').next().unwrap_or(key)
    }

    fn not_found(&self, key: &str) -> ApiStatus {
        ApiStatus::not_found(&self.config.resource, Self::name(key))
    }

    /// The object now, or `None`; and the store's revision. `known` is used if it is still the newest, which
    /// saves the decoding and shares its encoded form.
    async fn read(
        &self,
        deadline: Deadline,
        key: &str,
        serializable: bool,
        known: Option<StoredObject>,
    ) -> ApiResult<(Option<StoredObject>, i64)> {
        let request =
            pb::RangeRequest { key: Bytes::from(self.full_key(key)), serializable, limit: 1, ..Default::default() };
        let answer = self.access.range(deadline, request).await?;
        let object = match answer.kvs.first() {
            Some(kv) => match known.filter(|known| known.revision() == kv.mod_revision) {
                Some(known) => Some(known),
                None => Some(self.config.decode(&self.root, kv)?),
            },
            None => None,
        };
        Ok((object, revision_of(&answer.header)))
    }

    pub(crate) async fn get_known(
        &self,
        key: &str,
        freshness: Freshness,
        known: Option<StoredObject>,
    ) -> ApiResult<StoredObject> {
        let deadline = self.access.deadline();
        let (object, revision) = self.read(deadline, key, freshness == Freshness::Any, known).await?;
        if let Freshness::NotOlderThan(wanted) = freshness {
            if revision < wanted {
                return Err(too_large_resource_version(wanted, revision));
            }
        }
        object.ok_or_else(|| self.not_found(key))
    }

    /// The compare-and-set loop, beginning with `origin` if it is known (it may be old).
    pub(crate) async fn update_from(
        &self,
        key: &str,
        origin: Option<StoredObject>,
        preconditions: &Preconditions,
        update: &mut dyn Update,
        dry_run: bool,
    ) -> ApiResult<Outcome> {
        let deadline = self.access.deadline();
        let mut stale = origin.is_some();
        let mut current = match origin {
            Some(object) => Some(object),
            None => self.read(deadline, key, false, None).await?.0,
        };
        for _ in 0..UPDATE_TRIES_MAX {
            let decided = match check(&self.config.resource, key, preconditions, current.as_ref()) {
                Ok(()) => update.update(current.as_ref()).await,
                Err(error) => Err(error),
            };
            let keeps = match &decided {
                Ok(Verdict::Write { object, .. }) => {
                    current.as_ref().is_some_and(|c| envelope::same_content(c.value(), object))
                }
                Ok(Verdict::Delete) => current.is_none(),
                Ok(Verdict::Keep) | Err(_) => true,
            };
            if keeps && stale {
                // What was decided on an old state must be decided again on the newest.
                current = self.read(deadline, key, false, None).await?.0;
                stale = false;
                continue;
            }
            let verdict = decided?;
            if keeps {
                return Ok(Outcome::Unchanged(current));
            }
            if dry_run && !stale {
                return Ok(self.dry_outcome(key, current, verdict));
            }
            if dry_run {
                current = self.read(deadline, key, false, None).await?.0;
                stale = false;
                continue;
            }
            match self.try_write(deadline, key, current.as_ref(), verdict).await? {
                Ok(outcome) => return Ok(outcome),
                Err(newer) => {
                    current = newer;
                    stale = false;
                }
            }
        }
        Err(ApiStatus::conflict_modified(&self.config.resource, Self::name(key)))
    }

    fn dry_outcome(&self, key: &str, current: Option<StoredObject>, verdict: Verdict) -> Outcome {
        match (verdict, current) {
            (Verdict::Write { object, .. }, None) => Outcome::Created(self.config.stored(key, 0, object)),
            (Verdict::Write { object, .. }, Some(old)) => {
                Outcome::Updated(self.config.stored(key, old.revision(), object))
            }
            (Verdict::Delete, Some(old)) => Outcome::Deleted(old),
            (Verdict::Delete | Verdict::Keep, current) => Outcome::Unchanged(current),
        }
    }

    /// One compare-and-set. The inner error is the newer state that another write left.
    async fn try_write(
        &self,
        deadline: Deadline,
        key: &str,
        current: Option<&StoredObject>,
        verdict: Verdict,
    ) -> ApiResult<Result<Outcome, Option<StoredObject>>> {
        let expected = current.map_or(0, StoredObject::revision);
        let (write, object) = match verdict {
            Verdict::Write { object, ttl_s } => {
                let value = envelope::encode(&object);
                if value.len() > OBJECT_BYTES_MAX {
                    return Err(too_large(value.len()));
                }
                (Write::Put { value, ttl_s }, Some(object))
            }
            Verdict::Delete | Verdict::Keep => (Write::Delete, None),
        };
        match self.access.compare_and_set(deadline, &self.full_key(key), expected, &write).await? {
            CasOutcome::Done { revision } => Ok(Ok(match (object, current) {
                (Some(object), None) => Outcome::Created(self.config.stored(key, revision, object)),
                (Some(object), Some(_)) => Outcome::Updated(self.config.stored(key, revision, object)),
                (None, Some(old)) => Outcome::Deleted(old.at_revision(revision)),
                (None, None) => Outcome::Unchanged(None),
            })),
            CasOutcome::Lost { current } => Ok(Err(match &current {
                Some(kv) => Some(self.config.decode(&self.root, kv)?),
                None => None,
            })),
        }
    }

    pub(crate) async fn list_at(&self, prefix: &str, options: &ListOptions) -> ApiResult<ListPage> {
        crate::etcd_list::list(self, prefix, options).await
    }
}

fn too_large(bytes: usize) -> ApiStatus {
    ApiStatus::too_large(&format!("object is {bytes} bytes, limit is {OBJECT_BYTES_MAX}"))
}

/// Checks what the client knew of the object; nothing to check if there is none.
fn check(
    resource: &GroupResource,
    key: &str,
    preconditions: &Preconditions,
    current: Option<&StoredObject>,
) -> ApiResult<()> {
    let actual =
        |field: &str| current.and_then(|o| o.value()["metadata"][field].as_str()).unwrap_or_default().to_owned();
    for (what, field, wanted) in
        [("UID", "uid", &preconditions.uid), ("ResourceVersion", "resourceVersion", &preconditions.resource_version)]
    {
        if let Some(wanted) = wanted {
            let actual = actual(field);
            if *wanted != actual {
                let text =
                    format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}");
                return Err(ApiStatus::conflict(resource, EtcdStorage::name(key), &text));
            }
        }
    }
    Ok(())
}

#[async_trait]
impl Storage for EtcdStorage {
    fn group_resource(&self) -> &GroupResource {
        &self.config.resource
    }

    async fn create(&self, key: &str, object: Value, ttl_s: Option<i64>, dry_run: bool) -> ApiResult<StoredObject> {
        let deadline = self.access.deadline();
        let exists = || ApiStatus::already_exists(&self.config.resource, Self::name(key));
        if dry_run {
            return match self.read(deadline, key, false, None).await?.0 {
                Some(_) => Err(exists()),
                None => Ok(self.config.stored(key, 0, object)),
            };
        }
        match self.try_write(deadline, key, None, Verdict::Write { object, ttl_s }).await? {
            Ok(outcome) => outcome.into_object().ok_or_else(exists),
            Err(_) => Err(exists()),
        }
    }

    async fn get(&self, key: &str, freshness: Freshness) -> ApiResult<StoredObject> {
        self.get_known(key, freshness, None).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> ApiResult<ListPage> {
        self.list_at(prefix, &options).await
    }

    async fn watch(&self, prefix: &str, options: WatchOptions) -> ApiResult<WatchEvents> {
        etcd_watch::watch(self, prefix, options).await
    }

    async fn update(
        &self,
        key: &str,
        preconditions: &Preconditions,
        update: &mut dyn Update,
        dry_run: bool,
    ) -> ApiResult<Outcome> {
        self.update_from(key, None, preconditions, update, dry_run).await
    }

    async fn revision(&self) -> ApiResult<i64> {
        Ok(self.access.revision(self.access.deadline()).await?)
    }
}

/// The Status of a range that failed at a given revision.
pub(crate) fn range_error(error: StoreError, wanted: i64, current: i64) -> ApiStatus {
    match error {
        StoreError::Refused(ApiError::Compacted) => compacted_list(),
        StoreError::Refused(ApiError::FutureRevision) => too_large_resource_version(wanted, current),
        other => other.to_status(),
    }
}
