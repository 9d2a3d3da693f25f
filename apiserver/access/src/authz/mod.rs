//! Authorization: role-based access control over roles and bindings in memory.

mod bootstrap;
mod bootstrap_controllers;
mod escalation;
mod rbac;
mod rule;

pub use bootstrap::{bootstrap_objects, BootstrapObject};
pub use rbac::{Decision, Rbac};
pub use rule::PolicyRule;
