//! The filter chain: every request passes it, from the network or from within the process.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use http::{header, Request, Response};
use keelstone_access::{
    authn::{impersonated_user, impersonation_checks},
    User,
};
use keelstone_env::Identity;
use keelstone_machinery::status::{ApiResult, ApiStatus};
use tokio::time::timeout;

use crate::{
    body::Body,
    constants::REQUEST_TIMEOUT,
    context::{text_of, Context},
    handlers,
    metrics::Finished,
    paths, perturb,
    query::Query,
    request_info::RequestInfo,
    respond,
    state::State,
};

/// Who is at the other end.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A part of this process, whose identity is known.
    Known(User),
    /// A connection, with the certificate that it showed.
    Connection { certificate: Option<Identity> },
}

/// Answers one request. Never fails: every error becomes a Status.
pub async fn serve(state: Arc<State>, caller: Caller, request: Request<Body>) -> Response<Body> {
    let started = state.env.now();
    let (head, body) = request.into_parts();
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&head.method, head.uri.path(), &query);
    let long_running = info.is_long_running(&query);
    let context = Context {
        info,
        query,
        method: head.method,
        headers: head.headers,
        user: User::default(),
        now_unix_s: state.env.unix_time_s(),
        perturbed: None,
    };
    let labels = context.info.clone();
    let style = context.error_style();
    let answered = AssertUnwindSafe(filtered(&state, caller, context, body, long_running)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        tracing::error!(path = %labels.path, "a handler panicked");
        let text = "This request caused apiserver to panic. Look in the logs for details.";
        respond::status(&ApiStatus::internal(text), style)
    });
    let served = labels.is_resource && state.registry.get(&labels.group, &labels.version, &labels.resource).is_some();
    let known = |name: &'static str, text: String| if served { text } else { name.to_owned() };
    let (group, version) = (known("", labels.group), known("", labels.version));
    let (resource, subresource) = (known("", labels.resource), known("", labels.subresource));
    state.metrics.record(&Finished {
        verb: &labels.verb,
        group: &group,
        version: &version,
        resource: &resource,
        subresource: &subresource,
        code: response.status().as_u16(),
        duration: (!long_running).then(|| state.env.now() - started),
    });
    response
}

async fn filtered(
    state: &Arc<State>,
    caller: Caller,
    mut context: Context,
    body: Body,
    long_running: bool,
) -> Response<Body> {
    let style = context.error_style();
    match admit(state, &caller, &context).await {
        Ok(user) => context.user = user,
        Err(error) => return respond::status(&error, style),
    }
    let work = answer(state, context, body, long_running);
    let result = if long_running {
        work.await
    } else {
        match timeout(REQUEST_TIMEOUT, work).await {
            Ok(result) => result,
            Err(_) => {
                let text = "request did not complete within requested timeout - context deadline exceeded";
                Err(ApiStatus::new(504, "Timeout", format!("Timeout: {text}")))
            }
        }
    };
    result.unwrap_or_else(|error| respond::status(&error, style))
}

/// Authentication, then impersonation.
async fn admit(state: &State, caller: &Caller, context: &Context) -> ApiResult<User> {
    let user = match caller {
        Caller::Known(user) => user.clone(),
        Caller::Connection { certificate } => {
            let authorization = text_of(&context.headers, header::AUTHORIZATION);
            let authorization = (!authorization.is_empty()).then_some(authorization);
            let authenticator = &state.authenticator;
            authenticator.authenticate(certificate.as_ref(), authorization, context.now_unix_s).await?
        }
    };
    let headers = context.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let Some(wanted) = impersonated_user(headers)? else {
        return Ok(user);
    };
    for check in impersonation_checks(&user, &wanted) {
        let decision = state.rbac.authorize(&check);
        if !decision.allowed {
            return Err(check.forbidden(&decision.reason));
        }
    }
    Ok(wanted.with_implied_groups())
}

/// The bound on requests in flight, authorization, then the handler.
async fn answer(state: &Arc<State>, mut context: Context, body: Body, long_running: bool) -> ApiResult<Response<Body>> {
    // Those who repair the cluster are let in when it is full.
    let exempt = long_running || context.user.in_group(keelstone_access::user::MASTERS);
    let _place = if exempt { None } else { Some(state.in_flight.enter(context.info.is_read())?) };
    let attributes = context.info.attributes(&context.user);
    let decision = state.rbac.authorize(&attributes);
    if !decision.allowed {
        return Err(attributes.forbidden(&decision.reason));
    }
    if !context.info.is_resource {
        return paths::answer(state, &context).await;
    }
    let Some(perturber) = state.perturber.as_ref().filter(|p| p.observes(&context.user.name)) else {
        return handlers::answer(state, &context, body).await;
    };
    let perturbed = perturb::begin(perturber, &context).await?;
    let lost = perturbed.trouble.lost_answer();
    context.perturbed = Some(perturbed);
    let done = handlers::answer(state, &context, body).await?;
    lost.map_or(Ok(done), Err)
}
