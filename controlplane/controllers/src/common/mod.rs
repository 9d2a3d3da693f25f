//! What several controllers need: reading pods and selectors, ownership, wall-clock times as the API has them.

pub mod clock;
pub mod discovery;
pub mod endpoints;
pub mod namespaces;
pub mod ownership;
pub mod pods;
pub mod selector;
