//! The etcd v3 wire contract: messages and services (from our own `.proto` text) and the error table.
//!
//! Invariant: nothing here knows how the store works. Byte fields are [`bytes::Bytes`], so that a value is
//! sliced, never copied, on its way through.

mod error;

pub use error::{ApiError, PREFIX};

/// `mvccpb`: key-values and events.
#[allow(missing_docs, clippy::all)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// `authpb`: users, roles, permissions.
#[allow(missing_docs, clippy::all)]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// `etcdserverpb`: requests, responses and services.
#[allow(missing_docs, clippy::all)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

pub use etcdserverpb as pb;
