use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine};
use keelstone_machinery::status::{ApiResult, ApiStatus};
use serde::{Deserialize, Serialize};

/// The version of the token's form.
const VERSION: &str = "meta.k8s.io/v1";

/// Where a paginated list goes on: versioned JSON in base64url, as kube-apiserver makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinueToken {
    /// The snapshot's revision; -1: the newest there is (an inconsistent continuation after compaction).
    pub revision: i64,
    /// The first key of the next page, relative to the list's prefix.
    pub start: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

impl ContinueToken {
    /// The revision of a token that goes on with whatever is there.
    pub const INCONSISTENT: i64 = -1;

    /// The page after the object under `last_key` (relative to the prefix).
    pub fn after(revision: i64, last_key: &str) -> Self {
        // The smallest key that is greater; a key never contains NUL itself.
        Self { revision, start: format!("{last_key}\0") }
    }

    pub fn encode(&self) -> String {
        let wire = Wire { v: VERSION.into(), rv: self.revision, start: self.start.clone() };
        // Three plain fields: encoding cannot fail.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// # Errors
    /// 400 with the text that kube-apiserver has for each way of being wrong.
    pub fn decode(text: &str) -> ApiResult<Self> {
        let bad = |why: &str| ApiStatus::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| bad(&e.to_string()))?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
        if wire.v != VERSION {
            return Err(bad(&format!("server does not recognize this encoded version {:?}", wire.v)));
        }
        if wire.rv == 0 || wire.rv < Self::INCONSISTENT {
            return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        if wire.start.is_empty() {
            return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
        }
        if wire.start.starts_with('/') || wire.start.split('/').any(|part| part == "..") {
            return Err(bad(&format!("{}", wire.start.escape_default())));
        }
        Ok(Self { revision: wire.rv, start: wire.start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_tokens_are_a_bad_request() {
        let encode = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for token in [
            "%%%".to_owned(),
            encode("{"),
            encode(r#"{"v":"x","rv":1,"start":"a"}"#),
            encode(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
            encode(r#"{"v":"meta.k8s.io/v1","rv":-2,"start":"a"}"#),
            encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../a"}"#),
            encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"/a"}"#),
        ] {
            let error = ContinueToken::decode(&token).unwrap_err();
            assert_eq!(error.code, 400, "{token}");
            assert!(error.message.starts_with("continue key is not valid: "), "{}", error.message);
        }
    }

    proptest! {
        #[test]
        fn a_token_survives_the_client(revision in 1_i64.., key in "[a-z][a-z0-9/-]{0,40}") {
            let token = ContinueToken::after(revision, &key);
            prop_assert_eq!(ContinueToken::decode(&token.encode()).unwrap(), token);
        }
    }
}
