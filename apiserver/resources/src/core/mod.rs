//! The core group, v1.

pub mod config_map;
pub mod endpoints;
pub mod event;
pub mod namespace;
pub mod node;
pub mod pod;
mod pod_row;
mod pod_update;
pub mod secret;
pub mod service;
pub mod service_account;
mod service_validation;
