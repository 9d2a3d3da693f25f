use std::marker::PhantomData;

use bytes::Bytes;
use futures::{stream::BoxStream, StreamExt};
use http::Method;
use http_body_util::BodyExt;
use keelstone_machinery::gvk::GroupVersionResource;
use serde::{de::DeserializeOwned, Deserialize};
use serde_json::{json, Value};

use crate::{
    client::{decode, Client},
    error::{ClientError, ClientResult},
    object::{DynamicObject, Object},
    options::{DeleteOptions, ListOptions, LogOptions, Patch, PatchOptions, WatchOptions},
    query::Query,
    watch::{self, WatchEvent},
};

const JSON: &str = "application/json";

/// A list, or one page of it.
#[derive(Clone, Debug)]
pub struct ObjectList<T> {
    pub resource_version: String,
    /// Where the next page begins; empty on the last.
    pub continue_token: String,
    pub remaining_items: Option<i64>,
    pub items: Vec<T>,
}

/// The objects of one resource, in one namespace or in all.
///
/// Calls that name an object need [`Api::within`] first if the resource is namespaced; `create` and `update`
/// take the namespace from the object.
pub struct Api<T> {
    client: Client,
    resource: GroupVersionResource,
    namespace: Option<String>,
    object: PhantomData<fn() -> T>,
}

/// [`Api`] over JSON.
pub type DynamicApi = Api<DynamicObject>;

impl<T> Clone for Api<T> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            object: PhantomData,
        }
    }
}

impl<T: Object> Api<T> {
    pub(crate) fn new(client: Client, resource: GroupVersionResource, namespace: Option<String>) -> Self {
        Self { client, resource, namespace, object: PhantomData }
    }

    /// The same resource in one namespace; an empty one means all, or cluster-scoped.
    pub fn within(&self, namespace: &str) -> Self {
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        Self { namespace, ..self.clone() }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn gvr(&self) -> &GroupVersionResource {
        &self.resource
    }

    pub async fn get(&self, name: &str) -> ClientResult<T> {
        self.call(Method::GET, &self.path(name, ""), None).await
    }

    /// Like [`Api::get`], but `None` if there is no such object.
    pub async fn get_opt(&self, name: &str) -> ClientResult<Option<T>> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page (or all, without a limit).
    pub async fn list(&self, options: &ListOptions) -> ClientResult<ObjectList<T>> {
        let query = Query::new()
            .optional("labelSelector", options.label_selector.as_deref())
            .optional("fieldSelector", options.field_selector.as_deref())
            .optional("resourceVersion", options.resource_version.as_deref())
            .optional("resourceVersionMatch", options.version_match.map(|m| m.text()))
            .optional("limit", options.limit)
            .optional("continue", options.continue_token.as_deref());
        let body = self.client.bytes(self.client.request(Method::GET, &query.onto(self.collection()), None)?).await?;
        let list: RawList<T> = decode(&body)?;
        Ok(list.into_list())
    }

    /// Every page of one snapshot.
    pub async fn list_all(&self, options: &ListOptions) -> ClientResult<ObjectList<T>> {
        let mut options = options.clone();
        let mut all = self.list(&options).await?;
        while !all.continue_token.is_empty() {
            options.continue_token = Some(std::mem::take(&mut all.continue_token));
            // The token fixes the snapshot; the API forbids naming it a second time.
            options.resource_version = None;
            options.version_match = None;
            let page = self.list(&options).await?;
            all.items.extend(page.items);
            all.continue_token = page.continue_token;
            all.remaining_items = page.remaining_items;
        }
        Ok(all)
    }

    pub async fn create(&self, object: &T) -> ClientResult<T> {
        let path = self.manager(None).onto(self.of(object).collection());
        self.call(Method::POST, &path, Some((JSON, encode(object)?))).await
    }

    /// Replaces an object; its resourceVersion, if set, must still be the current one.
    pub async fn update(&self, object: &T) -> ClientResult<T> {
        self.replace(object, "").await
    }

    pub async fn update_status(&self, object: &T) -> ClientResult<T> {
        self.replace(object, "status").await
    }

    pub async fn patch(&self, name: &str, patch: &Patch, options: &PatchOptions) -> ClientResult<T> {
        self.patch_subresource(name, "", patch, options).await
    }

    pub async fn patch_status(&self, name: &str, patch: &Patch, options: &PatchOptions) -> ClientResult<T> {
        self.patch_subresource(name, "status", patch, options).await
    }

    /// Deletes an object, or begins to. Returns its last state if the server says it: always when the object
    /// lives on for a while (grace period, finalizers).
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> ClientResult<Option<T>> {
        let answer: Value = self.call(Method::DELETE, &self.path(name, ""), Some((JSON, options.body()))).await?;
        if answer["kind"] == "Status" {
            return Ok(None);
        }
        serde_json::from_value(answer).map(Some).map_err(|e| ClientError::Decode(e.to_string()))
    }

    /// Deletes all objects of the selection.
    pub async fn delete_collection(&self, options: &DeleteOptions, selection: &ListOptions) -> ClientResult<()> {
        let query = Query::new()
            .optional("labelSelector", selection.label_selector.as_deref())
            .optional("fieldSelector", selection.field_selector.as_deref());
        let path = query.onto(self.collection());
        self.call::<Value>(Method::DELETE, &path, Some((JSON, options.body()))).await.map(drop)
    }

    /// Opens a watch. The stream ends when the server ends the watch, and after its first error.
    pub async fn watch(&self, options: &WatchOptions) -> ClientResult<BoxStream<'static, ClientResult<WatchEvent<T>>>> {
        let query = Query::new()
            .optional("watch", Some("true"))
            .optional("labelSelector", options.label_selector.as_deref())
            .optional("fieldSelector", options.field_selector.as_deref())
            .optional("resourceVersion", options.resource_version.as_deref())
            .optional("allowWatchBookmarks", options.bookmarks.then_some("true"))
            .optional("timeoutSeconds", options.timeout_s);
        let request = self.client.request(Method::GET, &query.onto(self.collection()), None)?;
        let response = self.client.stream(request).await?;
        Ok(watch::events(response.into_body()).boxed())
    }

    /// Reads a subresource.
    pub async fn get_subresource<R: DeserializeOwned>(&self, name: &str, subresource: &str) -> ClientResult<R> {
        self.call(Method::GET, &self.path(name, subresource), None).await
    }

    /// POSTs to a subresource: `binding`, `eviction`, `token`.
    pub async fn create_subresource<R: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        body: &impl serde::Serialize,
    ) -> ClientResult<R> {
        let path = self.manager(None).onto(self.path(name, subresource));
        self.call(Method::POST, &path, Some((JSON, encode(body)?))).await
    }

    /// PUTs a subresource: `scale`, `status`.
    pub async fn update_subresource<R: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        body: &impl serde::Serialize,
    ) -> ClientResult<R> {
        let path = self.manager(None).onto(self.path(name, subresource));
        self.call(Method::PUT, &path, Some((JSON, encode(body)?))).await
    }

    pub async fn patch_subresource<R: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        patch: &Patch,
        options: &PatchOptions,
    ) -> ClientResult<R> {
        let query = self.manager(options.field_manager.as_deref()).optional("force", options.force.then_some("true"));
        let path = query.onto(self.path(name, subresource));
        self.call(Method::PATCH, &path, Some((patch.content_type(), patch.body().clone()))).await
    }

    /// Assigns a pod to a node. With a uid only that very pod is bound.
    pub async fn bind(&self, pod: &str, uid: &str, node: &str) -> ClientResult<()> {
        let mut body = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        if !uid.is_empty() {
            body["metadata"]["uid"] = uid.into();
        }
        if let Some(namespace) = &self.namespace {
            body["metadata"]["namespace"] = namespace.as_str().into();
        }
        self.create_subresource::<Value>(pod, "binding", &body).await.map(drop)
    }

    /// Asks for a pod's eviction (`policy/v1`).
    pub async fn evict(&self, pod: &str, options: &DeleteOptions) -> ClientResult<()> {
        let mut body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod},
            "deleteOptions": options.body(),
        });
        if let Some(namespace) = &self.namespace {
            body["metadata"]["namespace"] = namespace.as_str().into();
        }
        self.create_subresource::<Value>(pod, "eviction", &body).await.map(drop)
    }

    /// A token for a service account, bound to `bound_object` (a `core/v1` kind, name and uid) if given.
    /// Returns a `TokenRequest` of `authentication.k8s.io/v1` with its status.
    pub async fn create_token(
        &self,
        account: &str,
        audiences: &[String],
        expiration_s: i64,
        bound_object: Option<(&str, &str, &str)>,
    ) -> ClientResult<k8s_openapi::api::authentication::v1::TokenRequest> {
        let mut body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": expiration_s},
        });
        if let Some((kind, name, uid)) = bound_object {
            body["spec"]["boundObjectRef"] = json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": uid});
        }
        self.create_subresource(account, "token", &body).await
    }

    /// A container's log, in pieces as they come.
    pub async fn log(&self, pod: &str, options: &LogOptions) -> ClientResult<BoxStream<'static, ClientResult<Bytes>>> {
        let query = Query::new()
            .optional("container", options.container.as_deref())
            .optional("follow", options.follow.then_some("true"))
            .optional("previous", options.previous.then_some("true"))
            .optional("timestamps", options.timestamps.then_some("true"))
            .optional("tailLines", options.tail_lines)
            .optional("sinceSeconds", options.since_s)
            .optional("limitBytes", options.limit_bytes);
        let request = self.client.request(Method::GET, &query.onto(self.path(pod, "log")), None)?;
        let response = self.client.stream(request).await?;
        let pieces = response.into_body().into_data_stream();
        Ok(pieces.map(|piece| piece.map_err(|e| ClientError::Transport(e.to_string()))).boxed())
    }

    async fn replace(&self, object: &T, subresource: &str) -> ClientResult<T> {
        let path = self.manager(None).onto(self.of(object).path(object.name(), subresource));
        self.call(Method::PUT, &path, Some((JSON, encode(object)?))).await
    }

    async fn call<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Value)>,
    ) -> ClientResult<R> {
        self.client.call(method, path, body.as_ref().map(|(kind, value)| (*kind, value))).await
    }

    fn manager(&self, manager: Option<&str>) -> Query {
        Query::new().optional("fieldManager", Some(manager.unwrap_or(self.client.name())))
    }

    /// This resource in the namespace of `object`, unless a namespace is set already.
    fn of(&self, object: &T) -> Self {
        match self.namespace {
            Some(_) => self.clone(),
            None => self.within(object.namespace()),
        }
    }

    fn collection(&self) -> String {
        let GroupVersionResource { group, version, resource } = &self.resource;
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{}/{resource}", Query::escape(namespace)),
            None => format!("{root}/{resource}"),
        }
    }

    fn path(&self, name: &str, subresource: &str) -> String {
        let slash = if subresource.is_empty() { "" } else { "/" };
        format!("{}/{}{slash}{subresource}", self.collection(), Query::escape(name))
    }
}

fn encode(object: &impl serde::Serialize) -> ClientResult<Value> {
    serde_json::to_value(object).map_err(|e| ClientError::Transport(format!("cannot be encoded: {e}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawList<T> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    metadata: RawListMeta,
    #[serde(default = "Option::default")]
    items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
    remaining_item_count: Option<i64>,
}

impl<T: Object> RawList<T> {
    fn into_list(self) -> ObjectList<T> {
        let kind = self.kind.strip_suffix("List").unwrap_or(&self.kind);
        let mut items = self.items.unwrap_or_default();
        items.iter_mut().for_each(|item| item.set_type(&self.api_version, kind));
        ObjectList {
            resource_version: self.metadata.resource_version,
            continue_token: self.metadata.continue_token.unwrap_or_default(),
            remaining_items: self.metadata.remaining_item_count,
            items,
        }
    }
}
