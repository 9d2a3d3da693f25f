use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine};
use keelstone_machinery::status::ApiStatus;
use p256::{
    ecdsa::{
        signature::{Signer, Verifier},
        Signature, SigningKey, VerifyingKey,
    },
    pkcs8::{DecodePrivateKey, EncodePublicKey},
    SecretKey,
};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use super::Claims;
use crate::constants::TOKEN_BYTES_MAX;

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this cluster: another authenticator may know it.
    #[error("not a token of this issuer")]
    Foreign,
    #[error("the service account key cannot be used: {0}")]
    Key(String),
    #[error("the token's signature does not match")]
    Signature,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYetValid,
    #[error("token audiences {found:?} is invalid for the target audiences {wanted:?}")]
    Audience { found: Vec<String>, wanted: Vec<String> },
    #[error("service account token has been invalidated: {0}")]
    Invalidated(String),
    /// Whether it is still good could not be found out.
    #[error("{0}")]
    Unchecked(ApiStatus),
}

/// Keys that sign and verify service account tokens: ES256, with the deterministic nonces of RFC 6979, so that
/// signing draws no randomness. All masters hold the same signing key.
pub struct TokenKeys {
    signing: SigningKey,
    key_id: String,
    /// The signing key's own public key first; then older ones, whose tokens are still accepted.
    verifying: Vec<(String, VerifyingKey)>,
}

impl TokenKeys {
    /// Reads an EC private key on P-256 as PEM (PKCS #8, or SEC 1 as openssl writes it).
    ///
    /// # Errors
    /// [`TokenError::Key`] if the text holds no such key.
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        let secret = SecretKey::from_pkcs8_pem(pem)
            .or_else(|_| SecretKey::from_sec1_pem(pem))
            .map_err(|_| TokenError::Key("an EC private key on P-256 in PEM is needed".into()))?;
        let signing = SigningKey::from(secret);
        let public = *signing.verifying_key();
        let key_id = key_id(&public)?;
        Ok(Self { signing, key_id: key_id.clone(), verifying: vec![(key_id, public)] })
    }

    /// Also accepts tokens signed by another private key's owner (key rotation).
    ///
    /// # Errors
    /// [`TokenError::Key`] if the text holds no such key.
    pub fn accept_also(&mut self, pem: &str) -> Result<(), TokenError> {
        let other = Self::from_pem(pem)?;
        self.verifying.extend(other.verifying);
        Ok(())
    }

    /// The token in JWT compact form.
    pub fn sign(&self, claims: &Claims) -> String {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let claims = serde_json::to_string(claims).unwrap_or_default();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature: Signature = self.signing.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    /// Checks the signature and reads the claims, without judging them.
    ///
    /// # Errors
    /// `Foreign` if the text is not a token of `issuer`; `Signature`.
    pub fn verify(&self, token: &str, issuer: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Foreign);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Foreign)?;
        let header: Value = decode_json(header)?;
        let claims: Claims = decode_json(payload)?;
        if claims.iss != issuer || header["alg"] != "ES256" {
            return Err(TokenError::Foreign);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Signature)?;
        let signature = Signature::from_slice(&signature).map_err(|_| TokenError::Signature)?;
        let wanted_key = header["kid"].as_str();
        let matches = self
            .verifying
            .iter()
            .filter(|(id, _)| wanted_key.is_none_or(|wanted| wanted == id))
            .any(|(_, key)| key.verify(signed.as_bytes(), &signature).is_ok());
        matches.then_some(claims).ok_or(TokenError::Signature)
    }

    /// The public keys as a JSON Web Key Set (RFC 7517).
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self
            .verifying
            .iter()
            .filter_map(|(id, key)| {
                let point = key.to_encoded_point(false);
                let (x, y) = (point.x()?, point.y()?);
                Some(json!({
                    "use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
                    "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
                }))
            })
            .collect();
        json!({"keys": keys})
    }
}

/// The key's id: the SHA-256 of its public half in DER, as Kubernetes forms it.
fn key_id(key: &VerifyingKey) -> Result<String, TokenError> {
    let der = key.to_public_key_der().map_err(|error| TokenError::Key(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(der.as_bytes())))
}

fn decode_json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Foreign)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Foreign)
}
