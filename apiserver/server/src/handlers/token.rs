use http::{Response, StatusCode};
use keelstone_access::authn::TokenRequestInput;
use keelstone_machinery::{
    gvk::GroupVersionKind,
    status::{ApiResult, ApiStatus},
};
use serde_json::Value;

use super::{decode, Call};
use crate::{body::Body, respond};

impl Call<'_> {
    /// Issues a token of a service account.
    pub(super) async fn token(&self, body: Body) -> ApiResult<Response<Body>> {
        let (style, _) = self.context.negotiate(false)?;
        let gvk = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
        let body = self.read_body(body).await?;
        let (request, warnings) = decode::exactly(self.context, &body, &gvk)?;
        let account = self.store.get(self.namespace(), self.name(), "").await?;
        let bound = self.bound_object(&request["spec"]["boundObjectRef"]).await?;
        let node = match bound.as_ref().and_then(|pod| pod.pointer("/spec/nodeName")).and_then(Value::as_str) {
            Some(node) => self.state.lister.get("", "nodes", "", node),
            None => None,
        };
        self.check_node(bound.as_ref())?;
        let input = TokenRequestInput {
            service_account: account.value(),
            bound: bound.as_ref(),
            node: node.as_deref().map(|n| &**n),
            token_id: self.state.env.random().uuid(),
            now_s: self.context.now_unix_s,
        };
        let answer = self.state.authenticator.issuer().answer(&request, &input)?;
        let mut response = respond::object(StatusCode::CREATED, &answer, style);
        respond::add_warnings(&mut response, &warnings);
        Ok(response)
    }

    async fn bound_object(&self, reference: &Value) -> ApiResult<Option<Value>> {
        if !reference.is_object() {
            return Ok(None);
        }
        let kind = reference["kind"].as_str().unwrap_or_default();
        let name = reference["name"].as_str().unwrap_or_default();
        let (plural, namespace) = match kind {
            "Pod" => ("pods", self.namespace()),
            "Secret" => ("secrets", self.namespace()),
            "Node" => ("nodes", ""),
            other => return Err(ApiStatus::bad_request(format!("cannot bind token for object of type {other}"))),
        };
        let store = self.state.registry.get("", "v1", plural).ok_or_else(ApiStatus::no_such_path)?;
        Ok(Some(store.get(namespace, name, "").await?.value().clone()))
    }

    /// A node agent gets tokens for the pods that are bound to its node, and for no others.
    fn check_node(&self, bound: Option<&Value>) -> ApiResult<()> {
        let Some(node) = self.context.user.node_name() else {
            return Ok(());
        };
        let on = bound.and_then(|pod| pod.pointer("/spec/nodeName")).and_then(Value::as_str);
        if on == Some(node) {
            return Ok(());
        }
        let text = "node requested token not bound to a pod scheduled on it";
        Err(ApiStatus::forbidden(&self.store.info().group_resource(), self.name(), text))
    }
}
