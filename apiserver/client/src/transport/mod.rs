//! How requests reach an API server.

mod in_process;
mod master;
mod tcp;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use thiserror::Error;

pub use in_process::InProcess;
pub use tcp::{Credentials, TcpOptions, TcpTransport};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response body that arrives in pieces.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Why there is no response.
#[derive(Debug, Clone, Error)]
pub enum TransportError {
    /// The request certainly did not reach a server.
    #[error("{0}")]
    NotSent(String),
    /// The request may have been acted on.
    #[error("{0}")]
    Unanswered(String),
}

/// A way to an API server, or to several that serve the same cluster.
///
/// Requests carry a path and query only; scheme, host and credentials are the transport's.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError>;
}
