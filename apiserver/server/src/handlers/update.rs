use http::Response;
use keelstone_machinery::status::ApiResult;

use super::{decode, hook::Hook, Call};
use crate::body::Body;

impl Call<'_> {
    pub(super) async fn update(&self, body: Body) -> ApiResult<Response<Body>> {
        self.context.negotiate(true)?;
        let request = self.context.write_request()?;
        let body = self.read_body(body).await?;
        let (object, warnings) = decode::object(self.context, &body, &self.store.info().gvk())?;
        let hook = Hook::new(self, request.dry_run);
        let outcome = self.store.update(&request, self.list_namespace(), self.name(), object, &hook).await;
        hook.settle(outcome.as_ref().map(|w| w.object.value()).map_err(|e| e.code)).await;
        self.written(&outcome?, &warnings)
    }
}
