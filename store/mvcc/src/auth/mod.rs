//! Users, roles and their permissions. They are replicated state: what a command may do is decided when it is
//! applied, on every member alike, against the users and roles that it finds there.

mod caller;
mod command;
mod content;
mod permissions;
mod record;
mod requirement;
mod state;
mod view;

pub use caller::Caller;
pub use command::{AuthChange, AuthCommand, AuthEnable};
pub use content::AuthContent;
pub(crate) use permissions::Access;
pub(crate) use record::{AuthKey, AuthRecord, RoleRecord, UserRecord};
pub(crate) use requirement::check_command;
pub(crate) use state::{AuthState, ROOT};
pub use state::{AuthStatus, UserPassword};
pub use view::AuthView;
