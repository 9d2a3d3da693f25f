use std::time::Duration;

use keelstone_env::Env;
use keelstone_etcd_api::ApiError;
use keelstone_mvcc::{AuthView, Caller};

use super::{
    jwt::JwtTokens,
    simple_token::SimpleTokens,
    token_options::{invalid, TokenOptions},
};
use crate::StoreError;

/// The kinds of tokens, as etcd's `--auth-token` names them. Every member of a cluster must have the same.
pub(crate) enum Tokens {
    Simple(SimpleTokens),
    Jwt(Box<JwtTokens>),
}

impl Tokens {
    /// Reads `simple` or `jwt,pub-key=FILE,priv-key=FILE,sign-method=METHOD,ttl=DURATION`. `ttl` is that of
    /// simple tokens.
    pub fn new(env: &Env, options: &str, ttl: Duration) -> Result<Self, StoreError> {
        let options = TokenOptions::parse(options)?;
        match options.kind.as_str() {
            "simple" => Ok(Self::Simple(SimpleTokens::new(ttl))),
            "jwt" => JwtTokens::new(env, &options).map(|tokens| Self::Jwt(Box::new(tokens))),
            other => Err(invalid(format!("unknown kind {other:?}"))),
        }
    }

    /// A token for a user who has proved who it is.
    pub fn issue(&self, env: &Env, users: &AuthView, user: &str) -> Result<String, ApiError> {
        match self {
            Self::Simple(tokens) => tokens.issue(env, users, user).ok_or(ApiError::AuthFailed),
            Self::Jwt(tokens) => tokens.issue(env, &users.caller(user.to_owned())),
        }
    }

    /// The user whom a token names, if it is good now.
    pub fn verify(&self, env: &Env, users: &AuthView, token: &str) -> Option<Caller> {
        match self {
            Self::Simple(tokens) => tokens.verify(env, users, token),
            Self::Jwt(tokens) => tokens.verify(env, token),
        }
    }
}
