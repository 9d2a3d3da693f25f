use http::{header, Response, StatusCode};
use keelstone_machinery::{codec, gvk::GroupVersionKind, status::ApiResult};
use keelstone_registry::{DeleteOptions, Propagation};
use serde_json::Value;

use super::{hook::Hook, read::list_params, Call};
use crate::{body::Body, context::Context, respond};

/// Kinds whose deletion answers with the object that is gone; others answer with a Status.
const ANSWERS_WITH_OBJECT: [&str; 3] = ["pods", "serviceaccounts", "services"];

impl Call<'_> {
    pub(super) async fn delete(&self, body: Body) -> ApiResult<Response<Body>> {
        let (style, _) = self.context.negotiate(true)?;
        let mut request = self.context.write_request()?;
        let body = self.read_body(body).await?;
        let options = delete_options(self.context, &body)?;
        request.dry_run |= options.dry_run;
        let hook = Hook::new(self, request.dry_run);
        let deleted = self.store.delete(&request, self.list_namespace(), self.name(), &options, &hook).await?;
        self.wrote(&deleted.object);
        let info = self.store.info();
        let with_object = info.group.is_empty() && ANSWERS_WITH_OBJECT.contains(&info.plural);
        if deleted.gone && !with_object {
            return Ok(respond::object(StatusCode::OK, &deleted.to_status(info), style));
        }
        self.one(StatusCode::OK, &deleted.object)
    }

    pub(super) async fn delete_collection(&self, body: Body) -> ApiResult<Response<Body>> {
        self.context.negotiate(true)?;
        let mut request = self.context.write_request()?;
        let body = self.read_body(body).await?;
        let options = delete_options(self.context, &body)?;
        request.dry_run |= options.dry_run;
        let params = list_params(self.context)?;
        let hook = Hook::new(self, request.dry_run);
        let deleted = self.store.delete_collection(&request, self.list_namespace(), &params, &options, &hook).await?;
        self.page(&deleted)
    }
}

/// DeleteOptions from the body (with or without a kind), or from the query.
///
/// # Errors
/// 400 for options that cannot be read.
pub(super) fn delete_options(context: &Context, body: &[u8]) -> ApiResult<DeleteOptions> {
    let mut options = if body.iter().all(u8::is_ascii_whitespace) {
        DeleteOptions::default()
    } else {
        let kind = GroupVersionKind::new("", "v1", "DeleteOptions");
        let decoded = codec::decode(context.header(header::CONTENT_TYPE), body, Some(&kind))?;
        DeleteOptions::from_value(&decoded.object)?
    };
    let query = &context.query;
    if options.grace_period_s.is_none() {
        options.grace_period_s = query.number("gracePeriodSeconds")?;
    }
    if options.propagation_policy.is_none() {
        options.propagation_policy = match (query.get("propagationPolicy"), query.find("orphanDependents")) {
            ("", None) => None,
            ("", Some(_)) if query.flag("orphanDependents") => Some(Propagation::Orphan),
            ("", Some(_)) => Some(Propagation::Background),
            (policy, _) => Some(Propagation::parse(policy)?),
        };
    }
    options.dry_run |= query.dry_run()?;
    Ok(options)
}

/// Reads the deleteOptions inside an Eviction.
///
/// # Errors
/// 400 for options that cannot be read.
pub(super) fn eviction_options(options: &Value) -> ApiResult<DeleteOptions> {
    DeleteOptions::from_value(options)
}
