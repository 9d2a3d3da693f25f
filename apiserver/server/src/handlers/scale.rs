use http::{Response, StatusCode};
use keelstone_machinery::{gvk::GroupVersionKind, status::ApiResult};
use keelstone_registry::PatchRequest;
use serde_json::Value;

use super::{decode, hook::Hook, patch::Patch, Call};
use crate::{body::Body, respond};

impl Call<'_> {
    pub(super) async fn scale(&self, body: Body) -> ApiResult<Response<Body>> {
        let (style, _) = self.context.negotiate(false)?;
        let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
        let (namespace, name) = (self.namespace(), self.name());
        if self.context.info.verb == "get" {
            let scale = self.store.get_scale(namespace, name).await?;
            return Ok(respond::object(StatusCode::OK, &scale, style));
        }
        let request = self.context.write_request()?;
        let body = self.read_body(body).await?;
        let hook = Hook::new(self, request.dry_run);
        if self.context.info.verb == "update" {
            let (scale, warnings) = decode::exactly(self.context, &body, &gvk)?;
            let make = |_: Option<&Value>| Ok(scale.clone());
            let change = PatchRequest { make: &make, apply: false };
            let scale = self.store.update_scale(&request, namespace, name, &change, &hook).await?;
            let mut response = respond::object(StatusCode::OK, &scale, style);
            respond::add_warnings(&mut response, &warnings);
            return Ok(response);
        }
        let patch = Patch::read(self.context, &body, &gvk, &request.manager, self.now_rfc3339())?;
        let make = |current: Option<&Value>| patch.put_on(current);
        let change = PatchRequest { make: &make, apply: false };
        let scale = self.store.update_scale(&request, namespace, name, &change, &hook).await?;
        let mut response = respond::object(StatusCode::OK, &scale, style);
        respond::add_warnings(&mut response, &patch.warnings());
        Ok(response)
    }
}
