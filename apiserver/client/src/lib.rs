//! The Kubernetes API as the system's own parts use it: a typed and dynamic client that fails over between
//! masters, informers with indexed stores, leader election over leases, and event recording.
//!
//! Invariants: a mutating request whose outcome is unknown is never repeated here; a store never goes back to
//! an older state, also across masters; a leader stops before another may start.

mod api;
mod client;
pub mod constants;
mod error;
mod events;
mod informer;
mod leader;
mod object;
mod options;
mod query;
mod store;
mod transport;
mod watch;

pub use api::{Api, DynamicApi, ObjectList};
pub use client::{Client, WriteGuard};
pub use error::{ClientError, ClientResult};
pub use events::{EventRecorder, EventType, ObjectRef};
pub use informer::{Informer, InformerOptions};
pub use leader::{LeaderConfig, LeaderElector, Leadership};
pub use object::{object_key, split_key, DynamicObject, Object};
pub use options::{
    DeleteOptions, ListOptions, LogOptions, Patch, PatchOptions, Propagation, VersionMatch, WatchOptions,
};
pub use store::{parse_version, Index, Store, StoreEvent, Subscription};
pub use tokio_util::sync::CancellationToken;
pub use transport::{Body, BoxError, Credentials, InProcess, TcpOptions, TcpTransport, Transport, TransportError};
pub use watch::WatchEvent;
