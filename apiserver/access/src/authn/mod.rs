//! Authentication: client certificates, service account tokens, static tokens, anonymous, impersonation.

mod authenticator;
mod claims;
mod impersonation;
mod service_account;
mod static_tokens;
mod token_key;

pub use authenticator::{Authenticator, AuthnConfig};
pub use claims::{Audience, BoundObject, Claims, KubernetesClaims};
pub use impersonation::{impersonated_user, impersonation_checks};
pub use service_account::{TokenIssuer, TokenRequestInput};
pub use static_tokens::StaticTokens;
pub use token_key::{TokenError, TokenKeys};
