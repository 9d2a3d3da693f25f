use http::Response;
use keelstone_machinery::status::ApiResult;
use keelstone_registry::Written;

use super::{decode, hook::Hook, Call};
use crate::body::Body;

impl Call<'_> {
    pub(super) async fn create(&self, body: Body) -> ApiResult<Response<Body>> {
        self.context.negotiate(true)?;
        let request = self.context.write_request()?;
        let body = self.read_body(body).await?;
        let (object, warnings) = decode::object(self.context, &body, &self.store.info().gvk())?;
        let hook = Hook::new(self, request.dry_run);
        let outcome = self.store.create(&request, self.list_namespace(), object, &hook).await;
        hook.settle(outcome.as_ref().map(|o| o.value()).map_err(|e| e.code)).await;
        self.written(&Written { object: outcome?, created: true }, &warnings)
    }
}
