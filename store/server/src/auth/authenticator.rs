use keelstone_env::Env;
use keelstone_etcd_api::ApiError;
use keelstone_mvcc::{AuthView, Caller};

use super::{passwords::Passwords, tokens::Tokens, Credentials};
use crate::{StoreConfig, StoreError};

/// How this member finds out who calls.
pub(crate) struct Authenticator {
    pub tokens: Tokens,
    pub passwords: Passwords,
    /// Whether a client is the user whom its certificate names.
    by_certificate: bool,
}

impl Authenticator {
    /// # Errors
    /// If the token options are wrong or name keys that cannot be read.
    pub fn new(env: &Env, config: &StoreConfig) -> Result<Self, StoreError> {
        let by_certificate = config.client_tls.as_ref().is_some_and(|tls| tls.client_certificate_required);
        Ok(Self {
            tokens: Tokens::new(env, &config.auth_token, config.auth_token_ttl)?,
            passwords: Passwords::new(config.bcrypt_cost)?,
            by_certificate,
        })
    }

    /// The user whom a client's credentials name; one without a name if there are none.
    ///
    /// # Errors
    /// `invalid auth token`, also beside a valid certificate.
    pub fn caller(&self, env: &Env, users: &AuthView, credentials: &Credentials) -> Result<Caller, ApiError> {
        if let Some(token) = credentials.token() {
            return self.tokens.verify(env, users, token).ok_or(ApiError::InvalidAuthToken);
        }
        match credentials.common_name().filter(|_| self.by_certificate) {
            Some(name) => Ok(users.caller(name.to_owned())),
            None => Ok(Caller::default()),
        }
    }
}
