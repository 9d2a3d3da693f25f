//! What is done for each verb on a resource.

mod create;
mod decode;
mod delete;
mod hook;
mod log;
mod patch;
mod perturbed;
mod pod_actions;
mod read;
mod reviews;
mod scale;
mod token;
mod update;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use keelstone_machinery::status::{ApiResult, ApiStatus};
use keelstone_registry::{ResourceStore, Written};

use crate::{
    body::{self, Body},
    context::Context,
    negotiate::Form,
    respond,
    state::State,
    table,
    virtual_resources::VIRTUAL,
};

/// Subresources that are known and not served yet.
const NOT_SERVED: [&str; 6] = ["attach", "exec", "portforward", "proxy", "ephemeralcontainers", "resize"];

/// A request on a stored resource.
pub struct Call<'a> {
    pub state: &'a Arc<State>,
    pub context: &'a Context,
    pub store: Arc<ResourceStore>,
}

/// # Errors
/// Any Status.
pub async fn answer(state: &Arc<State>, context: &Context, body: Body) -> ApiResult<Response<Body>> {
    let info = &context.info;
    let asked = |r: &&keelstone_machinery::ResourceInfo| {
        r.group == info.group && r.version == info.version && r.plural == info.resource
    };
    if let Some(review) = VIRTUAL.iter().find(asked) {
        return reviews::answer(state, context, review, body).await;
    }
    let store = state.registry.get(&info.group, &info.version, &info.resource).ok_or_else(ApiStatus::no_such_path)?;
    let call = Call { state, context, store };
    call.check_path()?;
    if info.subresource.is_empty() {
        call.main(body).await
    } else {
        call.subresource(body).await
    }
}

impl Call<'_> {
    /// Paths that no route of a resource takes.
    fn check_path(&self) -> ApiResult<()> {
        let info = &self.context.info;
        let own = self.store.info();
        let is_namespaces = own.plural == "namespaces" && own.group.is_empty();
        let in_namespace = !info.namespace.is_empty();
        if in_namespace && !own.namespaced && !is_namespaces {
            return Err(ApiStatus::no_such_path());
        }
        if !in_namespace && own.namespaced && !["list", "watch", "deletecollection"].contains(&info.verb.as_str()) {
            let named = !info.name.is_empty();
            return Err(if named { ApiStatus::no_such_path() } else { ApiStatus::method_not_allowed() });
        }
        let bare_proxy = info.subresource == "proxy";
        if !info.rest.is_empty() && !bare_proxy {
            return Err(ApiStatus::no_such_path());
        }
        let takes_name = ["get", "update", "patch", "delete"].contains(&info.verb.as_str());
        if takes_name && info.name.is_empty() {
            return Err(ApiStatus::method_not_allowed());
        }
        if info.verb == "create" && !info.name.is_empty() && info.subresource.is_empty() {
            return Err(ApiStatus::method_not_allowed());
        }
        Ok(())
    }

    async fn main(&self, body: Body) -> ApiResult<Response<Body>> {
        let verb = self.context.info.verb.as_str();
        if !self.store.info().verbs.contains(&verb) {
            return Err(ApiStatus::method_not_allowed());
        }
        match verb {
            "get" => self.get().await,
            "list" => self.list().await,
            "watch" => self.watch().await,
            "create" => self.create(body).await,
            "update" => self.update(body).await,
            "patch" => self.patch(body).await,
            "delete" => self.delete(body).await,
            "deletecollection" => self.delete_collection(body).await,
            _ => Err(ApiStatus::method_not_allowed()),
        }
    }

    async fn subresource(&self, body: Body) -> ApiResult<Response<Body>> {
        let info = &self.context.info;
        let name = info.subresource.as_str();
        let Some(served) = self.store.info().subresource(name) else {
            if NOT_SERVED.contains(&name) {
                let resource = self.store.info().group_resource();
                let text = format!("the subresource {resource}/{name} is not served by this API server");
                return Err(ApiStatus::new(501, "NotImplemented", text));
            }
            return Err(ApiStatus::no_such_path());
        };
        if !served.verbs.contains(&info.verb.as_str()) {
            return Err(ApiStatus::method_not_allowed());
        }
        match (name, info.verb.as_str()) {
            ("scale", _) => self.scale(body).await,
            ("binding", "create") => self.bind(body).await,
            ("eviction", "create") => self.evict(body).await,
            ("token", "create") => self.token(body).await,
            ("log", "get") => self.log().await,
            (_, "get") => self.get().await,
            (_, "update") => self.update(body).await,
            (_, "patch") => self.patch(body).await,
            _ => Err(ApiStatus::method_not_allowed()),
        }
    }

    pub fn namespace(&self) -> &str {
        &self.context.info.namespace
    }

    pub fn name(&self) -> &str {
        &self.context.info.name
    }

    pub async fn read_body(&self, body: Body) -> ApiResult<Bytes> {
        body::read(body).await
    }

    /// The answer of a write.
    pub fn written(&self, written: &Written, warnings: &[String]) -> ApiResult<Response<Body>> {
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        self.wrote(&written.object);
        let mut response = self.one(code, &written.object)?;
        respond::add_warnings(&mut response, warnings);
        Ok(response)
    }

    /// One object in the form that the client wants.
    pub fn one(&self, code: StatusCode, object: &keelstone_storage::StoredObject) -> ApiResult<Response<Body>> {
        let (style, form) = self.context.negotiate(true)?;
        Ok(match form {
            Form::Object => respond::encoded(code, object.json(), style),
            Form::Partial => respond::object(code, &table::partial(object.value()), style),
            Form::Table => {
                let include = table::IncludeObject::parse(self.context.query.get("includeObject"))?;
                let metadata = serde_json::json!({"resourceVersion": object.revision().to_string()});
                let objects = std::iter::once(object.value());
                let now = self.context.now_unix_s;
                let table = table::table(self.store.resource(), objects, metadata, include, true, now);
                respond::object(code, &table, style)
            }
        })
    }
}
