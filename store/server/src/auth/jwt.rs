//! JSON Web Tokens with etcd's claims: `username`, `revision` (of users and roles, at the time of issue) and
//! `exp`. Any change of users or roles makes them old: their clients authenticate again.

use std::time::Duration;

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine};
use keelstone_env::Env;
use keelstone_etcd_api::ApiError;
use keelstone_mvcc::Caller;
use serde_json::{json, Value};

use super::{
    jwt_key::JwtKey,
    token_options::{invalid, TokenOptions},
};
use crate::{
    constants::{JWT_TTL, TOKEN_BYTES_MAX},
    flags::duration,
    StoreError,
};

const OPTIONS: [&str; 4] = ["sign-method", "pub-key", "priv-key", "ttl"];

/// Issues and checks tokens. Nothing about them is remembered.
pub(crate) struct JwtTokens {
    key: JwtKey,
    ttl: Duration,
}

impl JwtTokens {
    /// # Errors
    /// If a key cannot be read, keys do not belong together, or the method is not known.
    pub fn new(env: &Env, options: &TokenOptions) -> Result<Self, StoreError> {
        for name in options.unknown(&OPTIONS) {
            tracing::warn!(option = name, "unknown option of JSON Web Tokens");
        }
        let method = options.get("sign-method").ok_or_else(|| invalid("sign-method is missing"))?;
        let read = |name: &str| {
            let path = options.get(name).filter(|path| !path.is_empty());
            let content = path.map(|path| env.disk().read(std::path::Path::new(path)));
            content.transpose().map_err(|error| invalid(format!("{name}: {error}")))
        };
        let key = JwtKey::new(method, read("pub-key")?.as_deref(), read("priv-key")?.as_deref())?;
        let ttl = match options.get("ttl") {
            None => JWT_TTL,
            Some(text) => duration::parse(text).ok_or_else(|| invalid(format!("ttl {text:?} is no duration")))?,
        };
        Ok(Self { key, ttl })
    }

    /// # Errors
    /// If this member holds only the public key.
    pub fn issue(&self, env: &Env, caller: &Caller) -> Result<String, ApiError> {
        let expires_s = env.unix_time_s().saturating_add(i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX));
        let head = json!({"alg": self.key.method(), "typ": "JWT"});
        let claims = json!({"username": caller.user, "revision": caller.auth_revision, "exp": expires_s});
        let signed = format!("{}.{}", encode(&head), encode(&claims));
        let signature = self.key.sign(signed.as_bytes()).ok_or(ApiError::TokenVerifyOnly)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    pub fn verify(&self, env: &Env, token: &str) -> Option<Caller> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        if decode(head)?.get("alg")?.as_str()? != self.key.method() {
            return None;
        }
        if !self.key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?) {
            return None;
        }
        let claims = decode(claims)?;
        // As etcd, a token without an end is taken.
        if claims.get("exp").is_some_and(|end| end.as_f64().is_none_or(|end| end <= env.unix_time_s() as f64)) {
            return None;
        }
        let user = claims.get("username")?.as_str()?.to_owned();
        let auth_revision = claims.get("revision")?.as_u64()?;
        Some(Caller { user, auth_revision })
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    // Keys of RSA are made by openssl, and lie in files as an operator's do.
    #![allow(clippy::disallowed_methods)]

    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn tokens(env: &Env, options: &str) -> Result<JwtTokens, StoreError> {
        JwtTokens::new(env, &TokenOptions::parse(options).unwrap())
    }

    fn caller() -> Caller {
        Caller { user: "alice".into(), auth_revision: 7 }
    }

    /// Private and public key in files; `None`, said on the output, if they cannot be made here.
    fn keys(dir: &std::path::Path, method: &str) -> Option<(String, String)> {
        let (private, public) = (dir.join("private.pem"), dir.join("public.pem"));
        let pair = match method {
            "ES256" => rcgen::KeyPair::generate().unwrap(),
            "EdDSA" => rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
            _ => {
                let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&private).arg("2048").output();
                if !made.is_ok_and(|made| made.status.success()) {
                    println!("SKIPPED: {method}: openssl is missing");
                    return None;
                }
                let args = ["rsa", "-pubout", "-in"];
                let shown = Command::new("openssl").args(args).arg(&private).arg("-out").arg(&public).output();
                assert!(shown.unwrap().status.success());
                return Some((private.display().to_string(), public.display().to_string()));
            }
        };
        std::fs::write(&private, pair.serialize_pem()).unwrap();
        std::fs::write(&public, pair.public_key_pem()).unwrap();
        Some((private.display().to_string(), public.display().to_string()))
    }

    #[test]
    fn every_method_signs_and_checks_and_a_public_key_only_checks() {
        let env = Env::os();
        for method in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "EdDSA"] {
            let dir = tempfile::TempDir::new().unwrap();
            let Some((private, public)) = keys(dir.path(), method) else { continue };
            let signing =
                tokens(&env, &format!("jwt,sign-method={method},priv-key={private},pub-key={public}")).unwrap();
            let checking = tokens(&env, &format!("jwt,sign-method={method},pub-key={public}")).unwrap();
            let token = signing.issue(&env, &caller()).unwrap();
            assert_eq!(signing.verify(&env, &token), Some(caller()), "{method}");
            assert_eq!(checking.verify(&env, &token), Some(caller()), "{method}");
            assert_eq!(checking.issue(&env, &caller()), Err(ApiError::TokenVerifyOnly));
            let other = tempfile::TempDir::new().unwrap();
            let (_, stranger) = keys(other.path(), method).unwrap();
            assert!(tokens(&env, &format!("jwt,sign-method={method},priv-key={private},pub-key={stranger}")).is_err());
            let stranger = tokens(&env, &format!("jwt,sign-method={method},pub-key={stranger}")).unwrap();
            assert_eq!(stranger.verify(&env, &token), None, "{method}");
        }
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A signature says nothing about what is signed; and whatever the text is, it is a token or none.
        #[test]
        fn nonsense_is_no_token(claims in ".{0,80}", number in any::<f64>(), depth in 0..400_usize, text in ".{0,120}") {
            let (env, dir) = (Env::os(), tempfile::TempDir::new().unwrap());
            let secret = dir.path().join("secret");
            std::fs::write(&secret, "a secret that is long enough for everybody").unwrap();
            let made = tokens(&env, &format!("jwt,sign-method=HS256,priv-key={}", secret.display())).unwrap();
            let head = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256"}).to_string());
            let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let strange = [
                claims.clone(),
                deep.clone(),
                format!("{{\"username\":\"alice\",\"revision\":{number}}}"),
                format!("{{\"username\":{deep},\"revision\":7}}"),
                json!({"username": claims, "revision": 7, "exp": number}).to_string(),
                json!({"username": 7, "revision": 7}).to_string(),
                json!({"revision": 7}).to_string(),
            ];
            for claims in strange {
                let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims));
                let signature = made.key.sign(signed.as_bytes()).unwrap();
                let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
                let read = made.verify(&env, &token);
                prop_assert!(read.is_none_or(|caller| caller.auth_revision == 7 || caller.user == "alice"));
            }
            prop_assert_eq!(made.verify(&env, &text), None);
        }
    }

    #[test]
    fn old_forged_and_broken_tokens_are_refused() {
        let (env, dir) = (Env::os(), tempfile::TempDir::new().unwrap());
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "a secret that is long enough for everybody").unwrap();
        let options = |ttl: &str| format!("jwt,sign-method=HS256,priv-key={},ttl={ttl}", secret.display());
        let made = tokens(&env, &options("5m")).unwrap();
        let token = made.issue(&env, &caller()).unwrap();
        assert_eq!(made.verify(&env, &token), Some(caller()));
        let over = tokens(&env, &options("0s")).unwrap().issue(&env, &caller()).unwrap();
        assert_eq!(made.verify(&env, &over), None, "its time is over");
        let unsigned = format!("{}.{}.", encode(&json!({"alg": "none"})), token.split('.').nth(1).unwrap());
        assert_eq!(made.verify(&env, &unsigned), None);
        let mut broken = token.clone().into_bytes();
        for at in 0..broken.len() {
            for flip in [1, 0x20, 0x80] {
                broken[at] ^= flip;
                // The last letter of base64 may hold bits that mean nothing.
                let same = at + 1 == broken.len();
                assert!(same || made.verify(&env, &String::from_utf8_lossy(&broken)).is_none(), "byte {at}");
                broken[at] ^= flip;
            }
        }
        for nonsense in ["", ".", "..", "a.b.c", "....", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(made.verify(&env, nonsense), None);
        }
        assert!(tokens(&env, "jwt,priv-key=/nonexistent,sign-method=RS256").is_err());
        assert!(tokens(&env, "jwt,sign-method=none").is_err());
        assert!(tokens(&env, "jwt").is_err());
    }
}
