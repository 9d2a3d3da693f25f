use http::{Response, StatusCode};
use keelstone_access::reviews;
use keelstone_machinery::{
    status::{ApiResult, ApiStatus},
    ResourceInfo,
};

use super::decode;
use crate::{
    body::{self, Body},
    context::Context,
    respond,
    state::State,
};

/// Answers a review: a question that is created and not stored.
pub(super) async fn answer(
    state: &State,
    context: &Context,
    info: &ResourceInfo,
    body: Body,
) -> ApiResult<Response<Body>> {
    let asked = &context.info;
    if asked.verb != "create" || !asked.name.is_empty() {
        return Err(ApiStatus::method_not_allowed());
    }
    if info.namespaced == asked.namespace.is_empty() {
        return Err(ApiStatus::no_such_path());
    }
    let (style, _) = context.negotiate(false)?;
    context.query.dry_run()?;
    let body = body::read(body).await?;
    let (review, warnings) = decode::exactly(context, &body, &info.gvk())?;
    let (rbac, user) = (&state.rbac, &context.user);
    let answer = match info.kind {
        "SelfSubjectAccessReview" => reviews::self_subject_access(rbac, user, review)?,
        "SelfSubjectRulesReview" => reviews::self_subject_rules(rbac, user, review)?,
        "SelfSubjectReview" => reviews::self_subject(user, review),
        "TokenReview" => reviews::token(&state.authenticator, review, context.now_unix_s).await?,
        _ => reviews::subject_access(rbac, &asked.namespace, review)?,
    };
    let mut response = respond::object(StatusCode::CREATED, &answer, style);
    respond::add_warnings(&mut response, &warnings);
    Ok(response)
}
