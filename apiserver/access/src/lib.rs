//! Who may do what: authentication, authorization (RBAC), reviews and admission. Everything is decided from
//! memory through a [`Lister`], so that it goes on while the store has no quorum.

pub mod admission;
mod attributes;
pub mod authn;
pub mod authz;
pub mod constants;
mod lister;
pub mod reviews;
pub mod user;

pub use attributes::Attributes;
pub use lister::{FixedLister, Listed, Lister};
pub use user::User;
