//! Service account tokens, static tokens, certificates.

use std::sync::Arc;

use keelstone_access::{
    authn::{Authenticator, AuthnConfig, StaticTokens, TokenError, TokenIssuer, TokenKeys, TokenRequestInput},
    constants::{CLOCK_LEEWAY_S, TOKEN_BYTES_MAX, TOKEN_S_MAX, TOKEN_S_MIN},
    FixedLister, Lister,
};
use keelstone_env::Identity;
use serde_json::{json, Value};

const KEY: &str = include_str!("token-key.pem");
const NOW: i64 = 1_800_000_000;

fn issuer() -> TokenIssuer {
    TokenIssuer::new("https://issuer", Vec::new(), TokenKeys::from_pem(KEY).unwrap())
}

fn account(uid: &str) -> Value {
    json!({"metadata": {"namespace": "n", "name": "robot", "uid": uid}})
}

fn pod(uid: &str) -> Value {
    json!({"metadata": {"namespace": "n", "name": "p", "uid": uid}, "spec": {"serviceAccountName": "robot"}})
}

fn lister(objects: &[(&str, Value)]) -> Arc<dyn Lister> {
    let mut lister = FixedLister::default();
    for (resource, object) in objects {
        lister.add("", resource, object.clone());
    }
    Arc::new(lister)
}

fn request_token(request: &Value, bound: Option<&Value>) -> Result<String, u16> {
    let account = account("u1");
    let input = TokenRequestInput {
        service_account: &account,
        bound,
        node: None,
        token_id: "11111111-1111-4111-8111-111111111111".into(),
        now_s: NOW,
    };
    let answer = issuer().answer(request, &input).map_err(|e| e.code)?;
    Ok(answer["status"]["token"].as_str().unwrap().to_owned())
}

async fn authenticate(token: &str, lister: &Arc<dyn Lister>, now_s: i64) -> Result<String, TokenError> {
    let audiences = ["https://issuer".to_owned()];
    issuer().authenticate(token, &audiences, lister, now_s).await.map(|(user, _)| user.name)
}

#[tokio::test]
async fn a_token_lives_until_it_expires() {
    let token = request_token(&json!({"spec": {"expirationSeconds": 600}}), None).unwrap();
    let lister = lister(&[("serviceaccounts", account("u1"))]);
    let name = "system:serviceaccount:n:robot".to_owned();
    assert_eq!(authenticate(&token, &lister, NOW).await, Ok(name.clone()));
    assert_eq!(authenticate(&token, &lister, NOW + 600 + CLOCK_LEEWAY_S).await, Ok(name.clone()));
    assert_eq!(authenticate(&token, &lister, NOW + 601 + CLOCK_LEEWAY_S).await, Err(TokenError::Expired));
    assert_eq!(authenticate(&token, &lister, NOW - CLOCK_LEEWAY_S).await, Ok(name));
    assert_eq!(authenticate(&token, &lister, NOW - CLOCK_LEEWAY_S - 1).await, Err(TokenError::NotYetValid));
}

#[tokio::test]
async fn a_token_dies_with_its_account_and_its_pod() {
    let reference = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "p1"}}});
    let token = request_token(&reference, Some(&pod("p1"))).unwrap();
    let alive = lister(&[("serviceaccounts", account("u1")), ("pods", pod("p1"))]);
    assert!(authenticate(&token, &alive, NOW).await.is_ok());
    for gone in [
        lister(&[("serviceaccounts", account("u1"))]),
        lister(&[("serviceaccounts", account("u1")), ("pods", pod("p2"))]),
        lister(&[("serviceaccounts", account("u2")), ("pods", pod("p1"))]),
    ] {
        assert!(matches!(authenticate(&token, &gone, NOW).await, Err(TokenError::Invalidated(_))));
    }
}

#[test]
fn requests_are_checked_at_their_bounds() {
    let lives = |seconds: i64| request_token(&json!({"spec": {"expirationSeconds": seconds}}), None).map(|_| ());
    assert_eq!(lives(TOKEN_S_MIN), Ok(()));
    assert_eq!(lives(TOKEN_S_MIN - 1), Err(422));
    assert_eq!(lives(TOKEN_S_MAX), Ok(()));
    assert_eq!(lives(TOKEN_S_MAX + 1), Err(422));
    let other = json!({"spec": {"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "other"}}});
    assert_eq!(request_token(&other, Some(&pod("p1"))), Err(409));
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let token = request_token(&json!({"spec": {}}), None).unwrap();
    let lister = lister(&[("serviceaccounts", account("u1"))]);
    for i in [0, token.find('.').unwrap() + 3, token.len() - 10] {
        let mut bytes = token.clone().into_bytes();
        bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(authenticate(&changed, &lister, NOW).await.is_err(), "byte {i}");
    }
    for garbage in ["", ".", "..", "a.b.c", "e30.e30.e30", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
        assert_eq!(authenticate(garbage, &lister, NOW).await, Err(TokenError::Foreign));
    }
    let audiences = ["vault".to_owned()];
    let other = issuer().authenticate(&token, &audiences, &lister, NOW).await;
    assert!(matches!(other, Err(TokenError::Audience { .. })));
}

#[test]
fn signing_is_deterministic() {
    let once = request_token(&json!({"spec": {}}), None).unwrap();
    assert_eq!(once, request_token(&json!({"spec": {}}), None).unwrap());
    assert!(TokenKeys::from_pem("no key").is_err());
}

#[tokio::test]
async fn certificates_static_tokens_and_nobody() {
    let tokens = StaticTokens::parse("# comment\n\nsecret,alice,7,\"dev,ops\"\n").unwrap();
    let config = |anonymous| AuthnConfig { tokens: tokens.clone(), issuer: Arc::new(issuer()), anonymous };
    let open = Authenticator::new(config(true), lister(&[]));
    let closed = Authenticator::new(config(false), lister(&[]));
    let identity = Identity { common_name: "bob".into(), organizations: vec!["dev".into()] };
    let user = open.authenticate(Some(&identity), Some("Bearer wrong"), NOW).await.unwrap();
    assert_eq!((user.name.as_str(), user.groups), ("bob", vec!["dev".to_owned(), "system:authenticated".into()]));
    let user = open.authenticate(None, Some("bearer secret"), NOW).await.unwrap();
    assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
    assert_eq!(open.authenticate(None, Some("Bearer wrong"), NOW).await.unwrap_err().code, 401);
    assert_eq!(open.authenticate(None, None, NOW).await.unwrap().name, "system:anonymous");
    assert_eq!(closed.authenticate(None, None, NOW).await.unwrap_err().code, 401);
    assert!(StaticTokens::parse("a,b").is_err());
}
