use p256::{
    ecdsa::{
        signature::{Signer, Verifier},
        Signature as EcSignature, SigningKey, VerifyingKey,
    },
    pkcs8::{DecodePrivateKey, DecodePublicKey},
    SecretKey,
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair, RsaParameters, UnparsedPublicKey},
};
use rustls_pki_types::{pem::PemObject, PrivateKeyDer, SubjectPublicKeyInfoDer};
use x509_parser::{prelude::FromDer, x509::SubjectPublicKeyInfo};

use super::token_options::invalid;
use crate::StoreError;

/// A key of JSON Web Tokens. Without its private part it only checks them.
pub(super) struct JwtKey {
    method: &'static str,
    kind: Kind,
}

enum Kind {
    Hmac(hmac::Key),
    Rsa { pair: Option<RsaKeyPair>, encoding: &'static dyn RsaEncoding, public: Vec<u8>, check: &'static RsaParameters },
    Ec { private: Option<SigningKey>, public: VerifyingKey },
    Ed { pair: Option<Ed25519KeyPair>, public: Vec<u8> },
}

impl JwtKey {
    /// Keys are PEM texts; those of HS methods are taken as they are, from the private one.
    ///
    /// # Errors
    /// If the method is not known, a key is missing or cannot be read, or the two do not belong together.
    pub fn new(method: &str, public: Option<&[u8]>, private: Option<&[u8]>) -> Result<Self, StoreError> {
        let secret = |algorithm| {
            let secret = private.ok_or_else(|| invalid("priv-key is missing"))?;
            Ok::<_, StoreError>(Kind::Hmac(hmac::Key::new(algorithm, secret)))
        };
        let (method, kind) = match method {
            "HS256" => ("HS256", secret(hmac::HMAC_SHA256)?),
            "HS384" => ("HS384", secret(hmac::HMAC_SHA384)?),
            "HS512" => ("HS512", secret(hmac::HMAC_SHA512)?),
            "RS256" => ("RS256", rsa(&signature::RSA_PKCS1_SHA256, &RS256, public, private)?),
            "RS384" => ("RS384", rsa(&signature::RSA_PKCS1_SHA384, &RS384, public, private)?),
            "RS512" => ("RS512", rsa(&signature::RSA_PKCS1_SHA512, &RS512, public, private)?),
            "PS256" => ("PS256", rsa(&signature::RSA_PSS_SHA256, &PS256, public, private)?),
            "PS384" => ("PS384", rsa(&signature::RSA_PSS_SHA384, &PS384, public, private)?),
            "PS512" => ("PS512", rsa(&signature::RSA_PSS_SHA512, &PS512, public, private)?),
            "ES256" => ("ES256", ec(public, private)?),
            "EdDSA" => ("EdDSA", ed(public, private)?),
            other => return Err(invalid(format!("sign-method {other:?} is not known"))),
        };
        Ok(Self { method, kind })
    }

    /// The name of the method in a token's head.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// `None` without the private key.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match &self.kind {
            Kind::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Kind::Rsa { pair, encoding, .. } => {
                let pair = pair.as_ref()?;
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signature).ok()?;
                Some(signature)
            }
            Kind::Ec { private, .. } => {
                let signature: EcSignature = private.as_ref()?.sign(message);
                Some(signature.to_bytes().to_vec())
            }
            Kind::Ed { pair, .. } => Some(pair.as_ref()?.sign(message).as_ref().to_vec()),
        }
    }

    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Kind::Rsa { public, check, .. } => {
                UnparsedPublicKey::new(*check, public).verify(message, signature).is_ok()
            }
            Kind::Ec { public, .. } => {
                EcSignature::from_slice(signature).is_ok_and(|signature| public.verify(message, &signature).is_ok())
            }
            Kind::Ed { public, .. } => {
                UnparsedPublicKey::new(&signature::ED25519, public).verify(message, signature).is_ok()
            }
        }
    }
}

use signature::{
    RSA_PKCS1_2048_8192_SHA256 as RS256, RSA_PKCS1_2048_8192_SHA384 as RS384, RSA_PKCS1_2048_8192_SHA512 as RS512,
    RSA_PSS_2048_8192_SHA256 as PS256, RSA_PSS_2048_8192_SHA384 as PS384, RSA_PSS_2048_8192_SHA512 as PS512,
};

fn rsa(
    encoding: &'static dyn RsaEncoding,
    check: &'static RsaParameters,
    public: Option<&[u8]>,
    private: Option<&[u8]>,
) -> Result<Kind, StoreError> {
    let read = |pem: &[u8]| match PrivateKeyDer::from_pem_slice(pem).map_err(invalid)? {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(invalid),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(invalid),
        _ => Err(invalid("priv-key is not of RSA")),
    };
    let pair = private.map(read).transpose()?;
    let of_pair = pair.as_ref().map(|pair| pair.public().as_ref().to_vec());
    Ok(Kind::Rsa { public: public_bytes(public, of_pair)?, pair, encoding, check })
}

fn ed(public: Option<&[u8]>, private: Option<&[u8]>) -> Result<Kind, StoreError> {
    let read = |pem: &[u8]| match PrivateKeyDer::from_pem_slice(pem).map_err(invalid)? {
        PrivateKeyDer::Pkcs8(der) => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(invalid)
        }
        _ => Err(invalid("priv-key is not of Ed25519")),
    };
    let pair = private.map(read).transpose()?;
    let of_pair = pair.as_ref().map(|pair| pair.public_key().as_ref().to_vec());
    Ok(Kind::Ed { public: public_bytes(public, of_pair)?, pair })
}

fn ec(public: Option<&[u8]>, private: Option<&[u8]>) -> Result<Kind, StoreError> {
    let read = |pem: &[u8]| match PrivateKeyDer::from_pem_slice(pem).map_err(invalid)? {
        PrivateKeyDer::Pkcs8(der) => SigningKey::from_pkcs8_der(der.secret_pkcs8_der()).map_err(invalid),
        PrivateKeyDer::Sec1(der) => {
            SecretKey::from_sec1_der(der.secret_sec1_der()).map(SigningKey::from).map_err(invalid)
        }
        _ => Err(invalid("priv-key is not of the curve P-256")),
    };
    let private = private.map(read).transpose()?;
    let read_public = |pem: &[u8]| {
        let pem = std::str::from_utf8(pem).map_err(invalid)?;
        VerifyingKey::from_public_key_pem(pem).map_err(|error| invalid(format!("pub-key: {error}")))
    };
    let public = public.map(read_public).transpose()?;
    let of_private = private.as_ref().map(|private| *private.verifying_key());
    let public = together(public, of_private)?;
    Ok(Kind::Ec { private, public })
}

/// The bare public key of a PEM text, which must be that of the pair, if both are there.
fn public_bytes(pem: Option<&[u8]>, of_pair: Option<Vec<u8>>) -> Result<Vec<u8>, StoreError> {
    let read = |pem: &[u8]| {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(invalid)?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(invalid)?;
        Ok::<_, StoreError>(info.subject_public_key.data.to_vec())
    };
    together(pem.map(read).transpose()?, of_pair)
}

fn together<T: PartialEq>(public: Option<T>, of_private: Option<T>) -> Result<T, StoreError> {
    match (public, of_private) {
        (Some(public), Some(of_private)) if public != of_private => {
            Err(invalid("pub-key and priv-key do not belong together"))
        }
        (Some(key), _) | (None, Some(key)) => Ok(key),
        (None, None) => Err(invalid("pub-key and priv-key are missing")),
    }
}
