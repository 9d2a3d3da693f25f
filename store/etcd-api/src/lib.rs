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

/// `v3lockpb`: locks.
#[allow(missing_docs, clippy::all)]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// `v3electionpb`: elections.
#[allow(missing_docs, clippy::all)]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// `grpc.health.v1`: the gRPC health checking protocol.
#[allow(missing_docs, clippy::all)]
pub mod healthpb {
    tonic::include_proto!("grpc.health.v1");
}

/// All files of the contract as an encoded `google.protobuf.FileDescriptorSet`, without comments: what
/// reflection and the JSON mapping go by.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
