//! What the services do, whoever asks: gRPC and the in-process client share these.

mod auth;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod snapshot;

pub(crate) use kv::StreamRefused;
