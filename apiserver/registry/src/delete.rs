use async_trait::async_trait;
use keelstone_env::fault::{self, Point};
use keelstone_machinery::{
    meta,
    status::{ApiResult, ApiStatus},
    ResourceInfo,
};
use keelstone_storage::{ListPage, Outcome, Preconditions, StoredObject, Update, Verdict};
use serde_json::Value;

use crate::{
    constants::DELETE_COLLECTION_PAGE_OBJECTS_MAX, DeleteOptions, ListParams, Operation, Propagation, ResourceStore,
    WriteHook, WriteRequest,
};

/// The finalizers by which the garbage collector is told what to do with the dependents.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion left behind.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object as it was last, or as it is now if its deletion has only begun.
    pub object: StoredObject,
    /// It is gone; else it waits for its grace period or its finalizers.
    pub gone: bool,
}

impl Deleted {
    /// The Status with which most kinds answer a deletion.
    pub fn to_status(&self, info: &ResourceInfo) -> Value {
        let object = self.object.value();
        ApiStatus::success(&info.group_resource(), meta::name(object), meta::uid(object))
    }
}

impl ResourceStore {
    /// Deletes an object, or begins to: at once, after its grace period, or once its finalizers are gone.
    ///
    /// # Errors
    /// 404; 409 if a precondition does not hold; what the hook refuses.
    pub async fn delete(
        &self,
        request: &WriteRequest,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
        hook: &dyn WriteHook,
    ) -> ApiResult<Deleted> {
        let key = self.key(namespace, name)?;
        let dry_run = request.dry_run || options.dry_run;
        let mut step = Step { store: self, name, options, hook };
        fault::pause(Point::RegistryDelete).await;
        let outcome = self.storage.update(&key, &Preconditions::default(), &mut step, dry_run).await?;
        let (object, gone) = match outcome {
            Outcome::Deleted(object) => {
                if !dry_run {
                    hook.written(Operation::Delete, None, Some(object.value())).await;
                }
                (object, true)
            }
            Outcome::Updated(object) | Outcome::Created(object) | Outcome::Unchanged(Some(object)) => (object, false),
            Outcome::Unchanged(None) => return Err(ApiStatus::not_found(&self.group_resource, name)),
        };
        Ok(Deleted { object, gone })
    }

    /// Deletes every object that `params` select. Those that go away meanwhile are no error.
    pub async fn delete_collection(
        &self,
        request: &WriteRequest,
        namespace: &str,
        params: &ListParams,
        options: &DeleteOptions,
        hook: &dyn WriteHook,
    ) -> ApiResult<ListPage> {
        let mut deleted = ListPage::default();
        let mut page_params = params.clone();
        if page_params.limit == 0 {
            page_params.limit = i64::try_from(DELETE_COLLECTION_PAGE_OBJECTS_MAX).unwrap_or(i64::MAX);
        }
        loop {
            let page = self.list(namespace, &page_params).await?;
            deleted.revision = page.revision;
            for object in page.objects {
                let (of, name) = (meta::namespace(object.value()), meta::name(object.value()));
                match self.delete(request, of, name, options, hook).await {
                    Ok(one) => deleted.objects.push(one.object),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            if page.continue_token.is_empty() || params.limit > 0 {
                deleted.continue_token = page.continue_token;
                deleted.remaining = page.remaining;
                return Ok(deleted);
            }
            page_params.continue_token = page.continue_token;
            page_params.resource_version.clear();
            page_params.resource_version_match.clear();
        }
    }
}

/// One deletion in its compare-and-set loop.
struct Step<'a> {
    store: &'a ResourceStore,
    name: &'a str,
    options: &'a DeleteOptions,
    hook: &'a dyn WriteHook,
}

#[async_trait]
impl Update for Step<'_> {
    async fn update(&mut self, current: Option<&StoredObject>) -> ApiResult<Verdict> {
        let Some(current) = current else {
            return Err(ApiStatus::not_found(&self.store.group_resource, self.name));
        };
        self.check_preconditions(current.value())?;
        self.hook.validate(Operation::Delete, None, Some(current.value())).await?;
        Ok(self.decide(current.value()))
    }
}

impl Step<'_> {
    fn check_preconditions(&self, object: &Value) -> ApiResult<()> {
        let conflict = |text: String| Err(ApiStatus::conflict(&self.store.group_resource, self.name, &text));
        if let Some(wanted) = &self.options.precondition_uid {
            let actual = meta::uid(object);
            if wanted != actual {
                return conflict(format!(
                    "the UID in the precondition ({wanted}) does not match the UID in record ({actual}). The object \
                     might have been deleted and then recreated"
                ));
            }
        }
        if let Some(wanted) = &self.options.precondition_resource_version {
            let actual = meta::resource_version(object);
            if wanted != actual {
                return conflict(format!(
                    "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
                     ({actual}). The object might have been modified"
                ));
            }
        }
        Ok(())
    }

    fn decide(&self, current: &Value) -> Verdict {
        if meta::deletion_timestamp(current).is_some() {
            self.shorten(current)
        } else {
            self.begin(current)
        }
    }

    /// The deletion has begun before: it can only be made shorter.
    fn shorten(&self, current: &Value) -> Verdict {
        let left = meta::deletion_grace_period_s(current).unwrap_or(0);
        let Some(wanted) = self.options.grace_period_s.map(|s| s.max(0)).filter(|wanted| *wanted < left) else {
            return if left == 0 && !self.is_held(current) { Verdict::Delete } else { Verdict::Keep };
        };
        if wanted == 0 && !self.is_held(current) {
            return Verdict::Delete;
        }
        let mut object = current.clone();
        let end = meta::deletion_timestamp(current).and_then(meta::parse_rfc3339).map_or(0, |(s, _)| s);
        meta::set_deletion_timestamp(&mut object, &meta::rfc3339_from_unix(end - left + wanted));
        meta::set_deletion_grace_period_s(&mut object, Some(wanted));
        self.write(object)
    }

    fn begin(&self, current: &Value) -> Verdict {
        let mut object = current.clone();
        set_finalizers(&mut object, self.options.propagation_policy);
        let requested = self.options.grace_period_s.map(|s| s.max(0));
        let grace_s = self.store.resource.grace_period_s(&object, requested).unwrap_or(0).max(0);
        if grace_s == 0 && !self.is_held(&object) {
            return Verdict::Delete;
        }
        let end = self.store.env.unix_time_s().saturating_add(grace_s);
        meta::set_deletion_timestamp(&mut object, &meta::rfc3339_from_unix(end));
        meta::set_deletion_grace_period_s(&mut object, Some(grace_s));
        if meta::generation(&object) > 0 {
            let next = meta::generation(&object) + 1;
            meta::set_generation(&mut object, next);
        }
        self.store.resource.prepare_for_deletion(&mut object);
        self.write(object)
    }

    fn write(&self, object: Value) -> Verdict {
        Verdict::Write { ttl_s: self.store.resource.ttl_s(&object), object }
    }

    fn is_held(&self, object: &Value) -> bool {
        !meta::finalizers(object).is_empty() || self.store.resource.deletion_blocked(object)
    }
}

/// Notes the propagation policy as a finalizer; without a policy those that are there already stay.
fn set_finalizers(object: &mut Value, policy: Option<Propagation>) {
    let Some(policy) = policy else { return };
    let mut finalizers: Vec<String> =
        meta::finalizers(object).into_iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).map(str::to_owned).collect();
    match policy {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    let finalizers: Vec<&str> = finalizers.iter().map(String::as_str).collect();
    meta::set_finalizers(object, &finalizers);
}
