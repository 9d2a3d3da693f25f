//! Who calls: tokens, passwords and certificates. What a caller may do is the state machine's to decide.

mod authenticator;
mod credentials;
mod jwt;
mod jwt_key;
mod passwords;
mod simple_token;
mod token_options;
mod tokens;

pub(crate) use authenticator::Authenticator;
pub(crate) use credentials::Credentials;
