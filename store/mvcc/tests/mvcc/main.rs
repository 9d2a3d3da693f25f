//! The state machine through its public interface.

mod auth;
mod crash;
mod format;
mod golden;
mod limits;
mod model;
mod model_state;
mod pages;
mod script;
mod snapshot;
mod stream;
mod support;
mod watch;
