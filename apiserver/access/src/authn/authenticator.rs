use std::sync::Arc;

use keelstone_env::Identity;
use keelstone_machinery::status::{ApiResult, ApiStatus};

use super::{StaticTokens, TokenError, TokenIssuer};
use crate::{Lister, User};

/// What an [`Authenticator`] accepts.
pub struct AuthnConfig {
    pub tokens: StaticTokens,
    pub issuer: Arc<TokenIssuer>,
    /// Let requests without credentials through as `system:anonymous`.
    pub anonymous: bool,
}

/// Says who sends a request.
pub struct Authenticator {
    config: AuthnConfig,
    lister: Arc<dyn Lister>,
}

impl Authenticator {
    pub fn new(config: AuthnConfig, lister: Arc<dyn Lister>) -> Self {
        Self { config, lister }
    }

    pub fn issuer(&self) -> &Arc<TokenIssuer> {
        &self.config.issuer
    }

    /// The user of a request with a verified client certificate and an `Authorization` header, where present.
    ///
    /// # Errors
    /// 401: a token was shown and is not good, or nothing was shown and anonymous requests are not wanted.
    pub async fn authenticate(
        &self,
        certificate: Option<&Identity>,
        authorization: Option<&str>,
        now_s: i64,
    ) -> ApiResult<User> {
        if let Some(identity) = certificate.filter(|identity| !identity.common_name.is_empty()) {
            return Ok(User::from_certificate(identity));
        }
        if let Some(token) = authorization.and_then(bearer_token) {
            let audiences = self.config.issuer.api_audiences();
            return match self.authenticate_token(token, audiences, now_s).await {
                Ok((user, _)) => Ok(user),
                Err(TokenError::Unchecked(error)) => Err(error),
                Err(error) => {
                    tracing::debug!(%error, "token refused");
                    Err(ApiStatus::unauthorized(""))
                }
            };
        }
        if self.config.anonymous {
            return Ok(User::anonymous());
        }
        Err(ApiStatus::unauthorized(""))
    }

    /// The user of a bearer token, and for which of `audiences` it is good (TokenReview asks for this).
    ///
    /// # Errors
    /// Why the token is refused.
    pub async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
        now_s: i64,
    ) -> Result<(User, Vec<String>), TokenError> {
        if let Some(user) = self.config.tokens.find(token) {
            // A static token has no audience of its own: it is good for this API server's.
            let own = self.config.issuer.api_audiences();
            let common: Vec<String> = audiences.iter().filter(|a| own.contains(a)).cloned().collect();
            if common.is_empty() {
                return Err(TokenError::Audience { found: own.to_vec(), wanted: audiences.to_vec() });
            }
            return Ok((user.clone(), common));
        }
        self.config.issuer.authenticate(token, audiences, &self.lister, now_s).await
    }
}

fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
