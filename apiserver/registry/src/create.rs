use keelstone_machinery::{
    apply,
    field::Causes,
    meta,
    status::{ApiResult, ApiStatus},
    validation,
};
use keelstone_storage::StoredObject;
use serde_json::Value;

use crate::{constants::GENERATE_NAME_TRIES_MAX, name, Operation, ResourceStore, WriteHook, WriteRequest};

impl ResourceStore {
    /// Creates an object; with generateName it tries up to eight names.
    ///
    /// # Errors
    /// 400, 409, 422, and what the hook refuses.
    pub async fn create(
        &self,
        request: &WriteRequest,
        namespace: &str,
        mut object: Value,
        hook: &dyn WriteHook,
    ) -> ApiResult<StoredObject> {
        self.check_identity(namespace, None, &mut object)?;
        if !matches!(meta::resource_version(&object), "" | "0") {
            return Err(ApiStatus::bad_request("resourceVersion should not be set on objects to be created"));
        }
        self.resource.default(&mut object);
        hook.mutate(Operation::Create, &mut object, None).await?;
        self.resource.default(&mut object);
        let generated = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
        let mut tries = if generated { GENERATE_NAME_TRIES_MAX } else { 1 };
        loop {
            let attempt = self.prepare_new(request, object.clone(), true)?;
            hook.validate(Operation::Create, Some(&attempt), None).await?;
            let key = self.key(namespace, meta::name(&attempt))?;
            let ttl_s = self.resource.ttl_s(&attempt);
            let name = meta::name(&attempt).to_owned();
            tries -= 1;
            match self.storage.create(&key, attempt, ttl_s, request.dry_run).await {
                Err(error) if generated && error.is_already_exists() && tries > 0 => {}
                Err(error) if generated && error.is_already_exists() => {
                    return Err(ApiStatus::generate_name_conflict(&self.group_resource, &name, 1));
                }
                Err(error) => return Err(error),
                Ok(stored) => {
                    if !request.dry_run {
                        hook.written(Operation::Create, Some(stored.value()), None).await;
                    }
                    return Ok(stored);
                }
            }
        }
    }

    /// A new object as it will be stored: its system fields, strategy, ownership and validation.
    pub(crate) fn prepare_new(&self, request: &WriteRequest, mut object: Value, track: bool) -> ApiResult<Value> {
        if meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty() {
            let name = name::generate(&self.env, meta::generate_name(&object));
            meta::set_name(&mut object, &name);
        }
        meta::set_uid(&mut object, &self.env.random().uuid());
        meta::set_creation_timestamp(&mut object, &self.now());
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"] {
            meta::set(&mut object, field, Value::Null);
        }
        if !self.info().namespaced {
            meta::set(&mut object, "namespace", Value::Null);
        }
        self.resource.prepare_for_create(&self.context(request), &mut object);
        if self.resource.has_generation() {
            meta::set_generation(&mut object, 1);
        }
        if track {
            self.track_new(request, &mut object);
        }
        let mut causes = Causes::new();
        let rule = |name: &str| self.resource.validate_name(name);
        validation::object_meta(&object, self.info().namespaced, &rule, &mut causes);
        self.resource.validate(&object, &mut causes);
        self.invalid_if_any(&object, causes)?;
        Ok(object)
    }

    /// The status is the server's, not the creator's, so it belongs to no manager yet.
    fn track_new(&self, request: &WriteRequest, object: &mut Value) {
        let has_status = self.info().subresource("status").is_some();
        let status = if has_status { object.as_object_mut().and_then(|o| o.remove("status")) } else { None };
        let gvk = self.info().gvk();
        meta::set(object, "managedFields", Value::Null);
        apply::track_update(&gvk, None, object, &request.manager, &request.subresource, &self.now());
        if let (Some(status), Some(object)) = (status, object.as_object_mut()) {
            object.insert("status".into(), status);
        }
    }

    pub(crate) fn invalid_if_any(&self, object: &Value, causes: Causes) -> ApiResult<()> {
        if causes.is_empty() {
            return Ok(());
        }
        Err(ApiStatus::invalid(&self.info().gvk().group_kind(), meta::name(object), causes))
    }
}
