use std::sync::Arc;

use keelstone_machinery::{
    field::{Causes, Path},
    gvk::{GroupKind, GroupResource},
    meta,
    status::{ApiResult, ApiStatus},
};
use serde_json::{json, Value};

use super::{Audience, BoundObject, Claims, KubernetesClaims, TokenError, TokenKeys};
use crate::{
    constants::{CLOCK_LEEWAY_S, TOKEN_S_DEFAULT, TOKEN_S_MAX, TOKEN_S_MIN},
    Listed, Lister, User,
};

/// Issues and judges service account tokens.
pub struct TokenIssuer {
    issuer: String,
    api_audiences: Vec<String>,
    keys: TokenKeys,
}

/// What a token request needs beside its body.
pub struct TokenRequestInput<'a> {
    pub service_account: &'a Value,
    /// The object that the token is to be bound to, as it is stored; `None` if the request names none.
    pub bound: Option<&'a Value>,
    /// The node that the bound pod runs on, if it is known.
    pub node: Option<&'a Value>,
    /// A fresh UUID.
    pub token_id: String,
    /// Seconds since 1970.
    pub now_s: i64,
}

impl TokenIssuer {
    /// `api_audiences` are those that this API server answers to; empty: the issuer alone.
    pub fn new(issuer: &str, api_audiences: Vec<String>, keys: TokenKeys) -> Self {
        let api_audiences = if api_audiences.is_empty() { vec![issuer.to_owned()] } else { api_audiences };
        Self { issuer: issuer.to_owned(), api_audiences, keys }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn api_audiences(&self) -> &[String] {
        &self.api_audiences
    }

    /// `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        self.keys.jwks()
    }

    /// `/.well-known/openid-configuration`; `jwks_uri` is where [`TokenIssuer::jwks`] is served.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// Answers `authentication.k8s.io/v1 TokenRequest`: the request with defaults and its status filled.
    ///
    /// # Errors
    /// 422 for a lifetime out of bounds; 409 if the bound object is not the one that the request means.
    pub fn answer(&self, request: &Value, input: &TokenRequestInput<'_>) -> ApiResult<Value> {
        let spec = &request["spec"];
        let expiration_s = spec["expirationSeconds"].as_i64().unwrap_or(TOKEN_S_DEFAULT);
        let mut causes = Causes::new();
        let field = Path::new("spec").child("expirationSeconds");
        if expiration_s < TOKEN_S_MIN {
            causes.invalid(&field, expiration_s, "may not specify a duration less than 10 minutes");
        }
        if expiration_s > TOKEN_S_MAX {
            causes.invalid(&field, expiration_s, "may not specify a duration larger than 2^32 seconds");
        }
        if !causes.is_empty() {
            let kind = GroupKind { group: "authentication.k8s.io".into(), kind: "TokenRequest".into() };
            return Err(ApiStatus::invalid(&kind, "", causes));
        }
        let mut audiences: Vec<String> =
            spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect();
        if audiences.is_empty() {
            audiences = self.api_audiences.clone();
        }
        let kubernetes = self.bind(spec, input)?;
        let account = &input.service_account;
        let (namespace, name) = (meta_text(account, "namespace"), meta_text(account, "name"));
        let claims = Claims {
            aud: Audience::Many(audiences.clone()),
            exp: input.now_s + expiration_s,
            iat: input.now_s,
            nbf: input.now_s,
            iss: self.issuer.clone(),
            jti: input.token_id.clone(),
            sub: User::service_account(namespace, name, "").name,
            kubernetes,
        };
        let mut answer = request.clone();
        answer["apiVersion"] = json!("authentication.k8s.io/v1");
        answer["kind"] = json!("TokenRequest");
        answer["metadata"] = json!({
            "name": name, "namespace": namespace, "creationTimestamp": meta::rfc3339_from_unix(input.now_s),
        });
        answer["spec"]["audiences"] = json!(audiences);
        answer["spec"]["expirationSeconds"] = json!(expiration_s);
        answer["status"] = json!({
            "token": self.keys.sign(&claims),
            "expirationTimestamp": meta::rfc3339_from_unix(claims.exp),
        });
        Ok(answer)
    }

    fn bind(&self, spec: &Value, input: &TokenRequestInput<'_>) -> ApiResult<KubernetesClaims> {
        let object = |o: &Value| BoundObject { name: meta_text(o, "name").into(), uid: meta_text(o, "uid").into() };
        let account = input.service_account;
        let mut claims = KubernetesClaims {
            namespace: meta_text(account, "namespace").into(),
            serviceaccount: object(account),
            ..KubernetesClaims::default()
        };
        let Some(bound) = input.bound else {
            return Ok(claims);
        };
        let reference = &spec["boundObjectRef"];
        let (kind, uid) =
            (reference["kind"].as_str().unwrap_or_default(), reference["uid"].as_str().unwrap_or_default());
        if !uid.is_empty() && uid != meta_text(bound, "uid") {
            let resource = GroupResource { group: String::new(), resource: format!("{}s", kind.to_lowercase()) };
            let text = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(ApiStatus::conflict(&resource, meta_text(bound, "name"), &text));
        }
        match kind {
            "Pod" => {
                let pod_account = bound.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or_default();
                if pod_account != meta_text(account, "name") {
                    return Err(ApiStatus::bad_request(format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        meta_text(account, "name")
                    )));
                }
                claims.pod = Some(object(bound));
                claims.node = input.node.map(object);
            }
            "Secret" => claims.secret = Some(object(bound)),
            "Node" => claims.node = Some(object(bound)),
            other => {
                return Err(ApiStatus::bad_request(format!("cannot bind token to object of type {other}")));
            }
        }
        Ok(claims)
    }

    /// Who the token stands for, and for which of `audiences`. The account and the bound objects must still be
    /// there with the uid that the token names.
    ///
    /// # Errors
    /// [`TokenError::Foreign`] if it is not a token of this issuer, else why it is refused.
    pub async fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        lister: &Arc<dyn Lister>,
        now_s: i64,
    ) -> Result<(User, Vec<String>), TokenError> {
        let claims = self.keys.verify(token, &self.issuer)?;
        if now_s > claims.exp.saturating_add(CLOCK_LEEWAY_S) {
            return Err(TokenError::Expired);
        }
        if now_s.saturating_add(CLOCK_LEEWAY_S) < claims.nbf {
            return Err(TokenError::NotYetValid);
        }
        let found = claims.aud.to_vec();
        let common: Vec<String> = found.iter().filter(|a| audiences.contains(a)).cloned().collect();
        if common.is_empty() {
            return Err(TokenError::Audience { found, wanted: audiences.to_vec() });
        }
        let of = &claims.kubernetes;
        check_alive(lister, "serviceaccounts", &of.namespace, &of.serviceaccount).await?;
        if let Some(pod) = &of.pod {
            check_alive(lister, "pods", &of.namespace, pod).await?;
        }
        if let Some(secret) = &of.secret {
            check_alive(lister, "secrets", &of.namespace, secret).await?;
        }
        if let (Some(node), None) = (&of.node, &of.pod) {
            check_alive(lister, "nodes", "", node).await?;
        }
        Ok((user_of(&claims), common))
    }
}

async fn check_alive(
    lister: &Arc<dyn Lister>,
    resource: &str,
    namespace: &str,
    bound: &BoundObject,
) -> Result<(), TokenError> {
    let dead = |why: &str| TokenError::Invalidated(format!("{resource} {:?} {why}", bound.name));
    let same = |object: &Option<Listed>| object.as_ref().is_some_and(|o| meta_text(o, "uid") == bound.uid);
    let mut object = lister.get("", resource, namespace, &bound.name);
    if !same(&object) {
        object = lister.get_fresh("", resource, namespace, &bound.name).await.map_err(TokenError::Unchecked)?;
    }
    match object {
        None => Err(dead("is not there")),
        Some(_) if !same(&object) => Err(dead("has another uid")),
        Some(_) => Ok(()),
    }
}

fn user_of(claims: &Claims) -> User {
    let of = &claims.kubernetes;
    let mut user = User::service_account(&of.namespace, &of.serviceaccount.name, &of.serviceaccount.uid);
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &of.pod {
        add("pod-name", &pod.name);
        add("pod-uid", &pod.uid);
    }
    if let Some(node) = &of.node {
        add("node-name", &node.name);
        add("node-uid", &node.uid);
    }
    user
}

fn meta_text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default()
}
