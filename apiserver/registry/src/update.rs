use async_trait::async_trait;
use keelstone_env::fault::{self, Point, Sight};
use keelstone_machinery::{
    apply,
    field::{Causes, Path},
    meta,
    status::{ApiResult, ApiStatus},
    validation,
};
use keelstone_storage::{Outcome, Preconditions, StoredObject, Update, Verdict};
use serde_json::Value;

use crate::{Operation, ResourceStore, WriteHook, WriteRequest, Written};

/// Makes the new object from the current one; `None` if there is none.
pub type Make<'a> = &'a (dyn Fn(Option<&Value>) -> ApiResult<Value> + Send + Sync);

/// A patch, as a function over the current object.
#[derive(Clone, Copy)]
pub struct PatchRequest<'a> {
    pub make: Make<'a>,
    /// A server-side apply: creates what is not there, and has settled managedFields itself.
    pub apply: bool,
}

impl ResourceStore {
    /// Replaces an object, or one of its subresources as `request.subresource` says.
    ///
    /// # Errors
    /// 404; 409 for an old resourceVersion or another uid; 422; what the hook refuses.
    pub async fn update(
        &self,
        request: &WriteRequest,
        namespace: &str,
        name: &str,
        mut object: Value,
        hook: &dyn WriteHook,
    ) -> ApiResult<Written> {
        self.check_identity(namespace, Some(name), &mut object)?;
        let uid = Some(meta::uid(&object)).filter(|uid| !uid.is_empty()).map(str::to_owned);
        let preconditions = Preconditions { uid, resource_version: None };
        let make = move |_: Option<&Value>| Ok(object.clone());
        let creates = self.resource.allows_create_on_update() && request.subresource.is_empty();
        let step = Step {
            store: self,
            request,
            namespace,
            name,
            make: &make,
            track: true,
            creates,
            hook,
            old: None,
            last: None,
        };
        self.run_update(step, &preconditions).await
    }

    /// Changes an object by a function of its current state. A conflict is only reported if the patch itself
    /// names a resourceVersion; else it is made again on the newer state.
    ///
    /// # Errors
    /// As [`ResourceStore::update`], and what the function returns.
    pub async fn patch(
        &self,
        request: &WriteRequest,
        namespace: &str,
        name: &str,
        patch: &PatchRequest<'_>,
        hook: &dyn WriteHook,
    ) -> ApiResult<Written> {
        let creates = patch.apply && request.subresource.is_empty();
        let step = Step {
            store: self,
            request,
            namespace,
            name,
            make: patch.make,
            track: !patch.apply,
            creates,
            hook,
            old: None,
            last: None,
        };
        self.run_update(step, &Preconditions::default()).await
    }

    /// Changes an existing object for the server's own purposes: bindings, conditions, allocations.
    pub async fn modify(
        &self,
        request: &WriteRequest,
        namespace: &str,
        name: &str,
        make: &(dyn Fn(&Value) -> ApiResult<Value> + Send + Sync),
        hook: &dyn WriteHook,
    ) -> ApiResult<StoredObject> {
        let missing = || ApiStatus::not_found(&self.group_resource, name);
        let make = |current: Option<&Value>| make(current.ok_or_else(missing)?);
        let patch = PatchRequest { make: &make, apply: false };
        Ok(self.patch(request, namespace, name, &patch, hook).await?.object)
    }

    async fn run_update(&self, mut step: Step<'_>, preconditions: &Preconditions) -> ApiResult<Written> {
        let key = self.key(step.namespace, step.name)?;
        let (hook, dry_run) = (step.hook, step.request.dry_run);
        fault::pause(Point::RegistryUpdate).await;
        let outcome = self.storage.update(&key, preconditions, &mut step, dry_run).await?;
        let old = step.old.take();
        let (operation, object, created) = match &outcome {
            Outcome::Created(object) => (Some(Operation::Create), object.clone(), true),
            Outcome::Updated(object) => (Some(Operation::Update), object.clone(), false),
            // The last finalizer went away: the answer is the object as the client wanted it.
            Outcome::Deleted(object) => {
                let last = step.last.take().unwrap_or_else(|| object.value().clone());
                (Some(Operation::Delete), StoredObject::new(object.key(), object.revision(), last), false)
            }
            Outcome::Unchanged(Some(object)) => (None, object.clone(), false),
            Outcome::Unchanged(None) => return Err(ApiStatus::not_found(&self.group_resource, step.name)),
        };
        if let Some(operation) = operation.filter(|_| !dry_run) {
            let new = (operation != Operation::Delete).then(|| object.value());
            hook.written(operation, new, old.as_ref().map(StoredObject::value)).await;
        }
        Ok(Written { object, created })
    }
}

/// One update in its compare-and-set loop.
struct Step<'a> {
    store: &'a ResourceStore,
    request: &'a WriteRequest,
    namespace: &'a str,
    name: &'a str,
    make: Make<'a>,
    track: bool,
    creates: bool,
    hook: &'a dyn WriteHook,
    /// The state that the last decision was based on.
    old: Option<StoredObject>,
    /// The object whose removal was decided, as the client wanted it.
    last: Option<Value>,
}

impl Step<'_> {
    async fn create(&self) -> ApiResult<Verdict> {
        let store = self.store;
        if !self.creates {
            return Err(ApiStatus::not_found(&store.group_resource, self.name));
        }
        let mut object = (self.make)(None)?;
        store.check_identity(self.namespace, Some(self.name), &mut object)?;
        if !matches!(meta::resource_version(&object), "" | "0") {
            return Err(ApiStatus::conflict_modified(&store.group_resource, self.name));
        }
        store.resource.default(&mut object);
        self.hook.mutate(Operation::Create, &mut object, None).await?;
        store.resource.default(&mut object);
        let object = store.prepare_new(self.request, object, self.track)?;
        self.hook.validate(Operation::Create, Some(&object), None).await?;
        Ok(Verdict::Write { ttl_s: store.resource.ttl_s(&object), object })
    }

    /// The resourceVersion that the client based its change on must be the newest, if it names one.
    fn check_version(&self, new: &mut Value, old: &Value) -> ApiResult<()> {
        let store = self.store;
        let given = meta::resource_version(new);
        if matches!(given, "" | "0") {
            if !store.resource.allows_unconditional_update() {
                let mut causes = Causes::new();
                causes.invalid(&Path::from("metadata.resourceVersion"), 0, "must be specified for an update");
                return store.invalid_if_any(old, causes);
            }
            let current = meta::resource_version(old).to_owned();
            meta::set_resource_version(new, &current);
        } else if given.parse::<u64>().is_err() {
            let mut causes = Causes::new();
            let given = given.to_owned();
            causes.invalid(&Path::from("metadata.resourceVersion"), given, "must be an unsigned integer");
            return store.invalid_if_any(old, causes);
        } else if given != meta::resource_version(old) {
            return Err(ApiStatus::conflict_modified(&store.group_resource, self.name));
        }
        Ok(())
    }

    async fn change(&self, current: &StoredObject) -> ApiResult<Verdict> {
        let (store, old) = (self.store, current.value());
        let mut new = (self.make)(Some(old))?;
        store.check_identity(self.namespace, Some(self.name), &mut new)?;
        self.check_version(&mut new, old)?;
        store.resource.default(&mut new);
        self.hook.mutate(Operation::Update, &mut new, Some(old)).await?;
        store.resource.default(&mut new);
        keep_system_fields(&mut new, old);
        store.resource.prepare_for_update(&store.context(self.request), &mut new, old);
        if store.resource.has_generation() && store.resource.generation_changes(&new, old) {
            meta::set_generation(&mut new, meta::generation(old) + 1);
        }
        if self.track {
            let gvk = store.info().gvk();
            let request = self.request;
            apply::track_update(&gvk, Some(old), &mut new, &request.manager, &request.subresource, &store.now());
        }
        let mut causes = Causes::new();
        validation::object_meta_update(&new, old, &mut causes);
        store.resource.validate(&new, &mut causes);
        store.resource.validate_update_of(&store.context(self.request), &new, old, &mut causes);
        store.invalid_if_any(&new, causes)?;
        self.hook.validate(Operation::Update, Some(&new), Some(old)).await?;
        if same_but_for_times(&new, old) {
            return Ok(Verdict::Keep);
        }
        Ok(Verdict::Write { ttl_s: store.resource.ttl_s(&new), object: new })
    }

    /// Nothing holds the object any more.
    fn is_over(&self, object: &Value) -> bool {
        meta::deletion_timestamp(object).is_some()
            && meta::deletion_grace_period_s(object).unwrap_or(0) == 0
            && meta::finalizers(object).is_empty()
            && !self.store.resource.deletion_blocked(object)
    }
}

#[async_trait]
impl Update for Step<'_> {
    async fn update(&mut self, current: Option<&StoredObject>) -> ApiResult<Verdict> {
        if self.old.is_some() {
            fault::sight(Sight::ConflictRetried);
        }
        self.old = current.cloned();
        self.last = None;
        let Some(current) = current else { return self.create().await };
        match self.change(current).await? {
            Verdict::Write { object, .. } if self.is_over(&object) => {
                self.last = Some(object);
                Ok(Verdict::Delete)
            }
            verdict => Ok(verdict),
        }
    }
}

/// What no client may change, and what it may leave out.
fn keep_system_fields(new: &mut Value, old: &Value) {
    let of = |key: &str| old["metadata"].get(key).cloned().unwrap_or(Value::Null);
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new["metadata"].get(key).is_none_or(Value::is_null) {
            meta::set(new, key, of(key));
        }
    }
    meta::set(new, "generation", of("generation"));
    meta::set(new, "selfLink", Value::Null);
    if meta::managed_fields(new).is_empty() {
        meta::set(new, "managedFields", of("managedFields"));
    }
}

/// True if the two differ in nothing but the times within managedFields.
fn same_but_for_times(new: &Value, old: &Value) -> bool {
    let top = |v: &Value, w: &Value| {
        let (Some(v), Some(w)) = (v.as_object(), w.as_object()) else { return false };
        v.len() == w.len() && v.iter().all(|(key, value)| key == "metadata" || w.get(key) == Some(value))
    };
    let timeless = |v: &Value| {
        let mut metadata = v["metadata"].clone();
        meta_timeless(&mut metadata);
        metadata
    };
    top(new, old) && timeless(new) == timeless(old)
}

fn meta_timeless(metadata: &mut Value) {
    for entry in metadata.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(entry) = entry.as_object_mut() {
            entry.remove("time");
        }
    }
}
