use std::sync::Arc;

use keelstone_env::Env;
use keelstone_machinery::{
    gvk::GroupResource,
    meta,
    status::{ApiResult, ApiStatus},
    validation, ResourceInfo,
};
use keelstone_storage::{ListPage, Storage, StoredObject, WatchEvents};
use serde_json::Value;

use crate::{query, ListParams, Resource, WriteContext, WriteRequest};

/// The objects of one resource: the generic create, read, update and delete, given its kind by a [`Resource`].
pub struct ResourceStore {
    pub(crate) env: Env,
    pub(crate) resource: &'static dyn Resource,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) group_resource: GroupResource,
}

/// What a create, update or patch left behind.
#[derive(Clone, Debug)]
pub struct Written {
    pub object: StoredObject,
    /// The object is new: 201 instead of 200.
    pub created: bool,
}

impl ResourceStore {
    pub fn new(env: Env, resource: &'static dyn Resource, storage: Arc<dyn Storage>) -> Self {
        Self { env, resource, storage, group_resource: resource.info().group_resource() }
    }

    pub fn resource(&self) -> &'static dyn Resource {
        self.resource
    }

    pub fn info(&self) -> &'static ResourceInfo {
        self.resource.info()
    }

    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Reads one object. `resource_version` as in the query: empty is the newest, `0` whatever is at hand.
    pub async fn get(&self, namespace: &str, name: &str, resource_version: &str) -> ApiResult<StoredObject> {
        let freshness = query::get_freshness(resource_version)?;
        self.storage.get(&self.key(namespace, name)?, freshness).await
    }

    /// Lists the objects of a namespace, or of all with an empty `namespace`.
    pub async fn list(&self, namespace: &str, params: &ListParams) -> ApiResult<ListPage> {
        let options = query::list_options(self.resource, namespace, params)?;
        self.storage.list(&self.prefix(namespace)?, options).await
    }

    /// Watches the objects of a namespace, or of all with an empty `namespace`.
    pub async fn watch(&self, namespace: &str, params: &ListParams) -> ApiResult<WatchEvents> {
        let options = query::watch_options(self.resource, namespace, params)?;
        self.storage.watch(&self.prefix(namespace)?, options).await
    }

    pub(crate) fn key(&self, namespace: &str, name: &str) -> ApiResult<String> {
        let wrong = validation::path_segment_name(name);
        if name.is_empty() || !wrong.is_empty() {
            return Err(ApiStatus::bad_request(format!("Name parameter invalid: {name:?}: {}", wrong.join(";"))));
        }
        if !self.info().namespaced {
            return Ok(name.to_owned());
        }
        if namespace.is_empty() {
            return Err(ApiStatus::bad_request("Namespace parameter required."));
        }
        Ok(format!("{}{name}", self.prefix(namespace)?))
    }

    fn prefix(&self, namespace: &str) -> ApiResult<String> {
        if namespace.is_empty() || !self.info().namespaced {
            return Ok(String::new());
        }
        let wrong = validation::path_segment_name(namespace);
        if !wrong.is_empty() {
            let text = format!("Namespace parameter invalid: {namespace:?}: {}", wrong.join(";"));
            return Err(ApiStatus::bad_request(text));
        }
        Ok(format!("{namespace}/"))
    }

    pub(crate) fn context(&self, request: &WriteRequest) -> WriteContext {
        WriteContext {
            now_unix_s: self.env.unix_time_s(),
            user: request.user.clone(),
            subresource: request.subresource.clone(),
        }
    }

    pub(crate) fn now(&self) -> String {
        meta::now_rfc3339(self.env.wall_now())
    }

    /// The object must say the kind, namespace and name of the URL, or leave them out.
    pub(crate) fn check_identity(&self, namespace: &str, name: Option<&str>, object: &mut Value) -> ApiResult<()> {
        let info = self.info();
        if !object.is_object() {
            return Err(ApiStatus::bad_request("the object provided is not a map"));
        }
        let gvk = info.gvk();
        let (api_version, kind) = (meta::api_version(object), meta::kind(object));
        let differs =
            (!kind.is_empty() && kind != gvk.kind) || (!api_version.is_empty() && api_version != gvk.api_version());
        if differs {
            return Err(ApiStatus::bad_request(format!(
                "the API version in the data ({api_version}, Kind={kind}) does not match the expected API version \
                 ({}, Kind={})",
                gvk.api_version(),
                gvk.kind
            )));
        }
        meta::set_gvk(object, &gvk);
        match meta::namespace(object) {
            "" if info.namespaced => meta::set_namespace(object, namespace),
            given if given != namespace && info.namespaced => {
                return Err(ApiStatus::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            _ => {}
        }
        if let Some(name) = name {
            match meta::name(object) {
                "" => meta::set_name(object, name),
                given if given != name => {
                    return Err(ApiStatus::bad_request(format!(
                        "the name of the object ({given}) does not match the name on the URL ({name})"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
