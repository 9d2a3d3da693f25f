use keelstone_machinery::{
    field::{Causes, Path},
    gvk::GroupKind,
    meta,
    selector::LabelSelector,
    status::{ApiResult, ApiStatus},
};
use serde_json::{json, Value};

use crate::{PatchRequest, ResourceStore, WriteHook, WriteRequest};

impl ResourceStore {
    /// The autoscaling/v1 Scale of an object with `spec.replicas`, `status.replicas` and a selector.
    pub async fn get_scale(&self, namespace: &str, name: &str) -> ApiResult<Value> {
        Ok(scale_of(self.get(namespace, name, "").await?.value()))
    }

    /// Changes the number of replicas by an update or patch of the Scale.
    ///
    /// # Errors
    /// As an update; 422 for a negative number.
    pub async fn update_scale(
        &self,
        request: &WriteRequest,
        namespace: &str,
        name: &str,
        change: &PatchRequest<'_>,
        hook: &dyn WriteHook,
    ) -> ApiResult<Value> {
        let missing = || ApiStatus::not_found(&self.group_resource, name);
        let make = |current: Option<&Value>| {
            let current = current.ok_or_else(missing)?;
            let scale = (change.make)(Some(&scale_of(current)))?;
            self.with_scale(name, current, &scale)
        };
        let request = WriteRequest { subresource: "scale".into(), ..request.clone() };
        let patch = PatchRequest { make: &make, apply: change.apply };
        let written = self.patch(&request, namespace, name, &patch, hook).await?;
        Ok(scale_of(written.object.value()))
    }

    fn with_scale(&self, name: &str, current: &Value, scale: &Value) -> ApiResult<Value> {
        let given = meta::name(scale);
        if !given.is_empty() && given != name {
            return Err(ApiStatus::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({name})"
            )));
        }
        if !matches!(meta::kind(scale), "" | "Scale") {
            return Err(ApiStatus::bad_request(format!("expected a Scale, got a {}", meta::kind(scale))));
        }
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => Some(0),
            value => value.as_i64(),
        };
        let mut causes = Causes::new();
        let at = Path::from("spec.replicas");
        match replicas {
            Some(replicas) if (0..=i64::from(i32::MAX)).contains(&replicas) => {
                let mut object = current.clone();
                object["spec"]["replicas"] = replicas.into();
                if !meta::resource_version(scale).is_empty() {
                    meta::set_resource_version(&mut object, meta::resource_version(scale));
                }
                return Ok(object);
            }
            Some(replicas) => causes.invalid(&at, replicas, "must be greater than or equal to 0"),
            None => causes.type_invalid(&at, scale["spec"]["replicas"].clone(), "must be an integer"),
        }
        let kind = GroupKind { group: "autoscaling".into(), kind: "Scale".into() };
        Err(ApiStatus::invalid(&kind, name, causes))
    }
}

fn scale_of(object: &Value) -> Value {
    let selector = LabelSelector::from_value(&object["spec"]["selector"]).ok().map(|s| s.to_string());
    let mut metadata = json!({
        "name": meta::name(object),
        "uid": meta::uid(object),
        "resourceVersion": meta::resource_version(object),
        "creationTimestamp": meta::creation_timestamp(object),
    });
    if !meta::namespace(object).is_empty() {
        metadata["namespace"] = meta::namespace(object).into();
    }
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    if let Some(selector) = selector.filter(|s| !s.is_empty()) {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": status,
    })
}
