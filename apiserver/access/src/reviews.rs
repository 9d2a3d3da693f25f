//! The reviews: questions about access, answered in the request's own object.

use keelstone_machinery::status::{ApiResult, ApiStatus};
use serde_json::{json, Value};

use crate::{
    authn::Authenticator,
    authz::{PolicyRule, Rbac},
    constants::REVIEW_RULES_MAX,
    Attributes, User,
};

/// Answers SelfSubjectAccessReview for the asking user.
///
/// # Errors
/// 400 unless exactly one of resourceAttributes and nonResourceAttributes is given.
pub fn self_subject_access(rbac: &Rbac, user: &User, mut review: Value) -> ApiResult<Value> {
    let attributes = attributes_of(&review["spec"], user.clone())?;
    fill_access(rbac, &attributes, &mut review);
    Ok(review)
}

/// Answers SubjectAccessReview, or LocalSubjectAccessReview if `namespace` is not empty.
///
/// # Errors
/// 400 if nobody is asked about, or the local review is about another namespace.
pub fn subject_access(rbac: &Rbac, namespace: &str, mut review: Value) -> ApiResult<Value> {
    let spec = &review["spec"];
    let mut user = User { name: text(spec, "user").into(), uid: text(spec, "uid").into(), ..User::default() };
    user.groups = texts(spec.get("groups"));
    for (key, values) in spec["extra"].as_object().into_iter().flatten() {
        user.extra.insert(key.to_lowercase(), texts(Some(values)));
    }
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(ApiStatus::bad_request(
            "spec.user: Required value: at least one of user or group must be specified",
        ));
    }
    let attributes = attributes_of(spec, user)?;
    if !namespace.is_empty() && attributes.namespace != namespace {
        return Err(ApiStatus::bad_request(
            "spec.resourceAttributes.namespace: Invalid value: must match metadata.namespace",
        ));
    }
    fill_access(rbac, &attributes, &mut review);
    Ok(review)
}

/// Answers SelfSubjectRulesReview: all that the user may do in a namespace, as far as roles say it.
///
/// # Errors
/// 400 if no namespace is given.
pub fn self_subject_rules(rbac: &Rbac, user: &User, mut review: Value) -> ApiResult<Value> {
    let namespace = text(&review["spec"], "namespace").to_owned();
    if namespace.is_empty() {
        return Err(ApiStatus::bad_request("no namespace on request"));
    }
    let mut rules = rbac.rules_for(user, &namespace);
    if user.in_group(crate::user::MASTERS) {
        let all = || vec!["*".to_owned()];
        rules.push(PolicyRule { verbs: all(), api_groups: all(), resources: all(), ..PolicyRule::default() });
        rules.push(PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() });
    }
    let incomplete = rules.len() > REVIEW_RULES_MAX;
    rules.truncate(REVIEW_RULES_MAX);
    let (of_paths, of_resources): (Vec<_>, Vec<_>) = rules.into_iter().partition(|r| !r.non_resource_urls.is_empty());
    review["status"] = json!({
        "resourceRules": of_resources.iter().map(|r| json!(r)).collect::<Vec<_>>(),
        "nonResourceRules": of_paths.iter().map(|r| json!(r)).collect::<Vec<_>>(),
        "incomplete": incomplete,
    });
    Ok(review)
}

/// Answers SelfSubjectReview: who am I.
pub fn self_subject(user: &User, mut review: Value) -> Value {
    review["status"] = json!({"userInfo": user.to_user_info()});
    review
}

/// Answers TokenReview.
///
/// # Errors
/// 400 if there is no token to review.
pub async fn token(authenticator: &Authenticator, mut review: Value, now_s: i64) -> ApiResult<Value> {
    let spec = &review["spec"];
    let token = text(spec, "token").to_owned();
    if token.is_empty() {
        return Err(ApiStatus::bad_request("token is required for TokenReview in authentication"));
    }
    let asked = texts(spec.get("audiences"));
    let audiences = if asked.is_empty() { authenticator.issuer().api_audiences().to_vec() } else { asked.clone() };
    review["status"] = match authenticator.authenticate_token(&token, &audiences, now_s).await {
        Ok((user, good_for)) => {
            let mut status = json!({"authenticated": true, "user": user.to_user_info()});
            if !good_for.is_empty() {
                status["audiences"] = json!(good_for);
            }
            status
        }
        Err(error) => json!({"user": {}, "error": error.to_string()}),
    };
    Ok(review)
}

fn fill_access(rbac: &Rbac, attributes: &Attributes, review: &mut Value) {
    let decision = rbac.authorize(attributes);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    review["status"] = status;
}

fn attributes_of(spec: &Value, user: User) -> ApiResult<Attributes> {
    let resource = spec.get("resourceAttributes").filter(|a| a.is_object());
    let path = spec.get("nonResourceAttributes").filter(|a| a.is_object());
    match (resource, path) {
        (Some(of), None) => Ok(Attributes {
            user,
            verb: text(of, "verb").into(),
            is_resource: true,
            group: text(of, "group").into(),
            version: text(of, "version").into(),
            resource: text(of, "resource").into(),
            subresource: text(of, "subresource").into(),
            namespace: text(of, "namespace").into(),
            name: text(of, "name").into(),
            path: String::new(),
        }),
        (None, Some(of)) => {
            Ok(Attributes { user, verb: text(of, "verb").into(), path: text(of, "path").into(), ..Attributes::default() })
        }
        _ => Err(ApiStatus::bad_request(
            "spec.resourceAttributes: Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn texts(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}
