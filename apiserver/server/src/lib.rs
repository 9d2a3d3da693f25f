//! The API server: connections, filter chain, routes, handlers, discovery, and what a cluster has from its
//! first start on.
//!
//! A request passes authentication, impersonation, the bound on requests in flight, authorization and
//! admission, then the registry. Discovery, authentication, authorization and reads at resourceVersion 0 are
//! answered from memory, also while the store has no quorum.

mod allocate;
mod body;
mod bootstrap;
mod config;
pub mod constants;
mod context;
mod discovery;
mod handlers;
mod health;
mod in_flight;
mod listener;
mod lister;
mod local;
mod metrics;
mod negotiate;
mod node_client;
mod openapi;
mod paths;
pub mod perturb;
mod query;
mod request_info;
mod respond;
mod serve;
mod server;
mod state;
mod table;
mod virtual_resources;

pub use body::{Body, BoxError};
pub use config::{ApiServerConfig, ServiceCidr};
pub use local::LocalService;
pub use server::{ApiServer, RunningApiServer, StartError};
