//! The connection to the runtime's unix socket.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a leaf: unix sockets are beyond Env's network

use std::{path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::constants::CRI_CONNECT_S_MAX;

/// A lazy channel that connects anew after the runtime was restarted.
pub fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    // The name is only the `:authority` of the requests; the connector dials the socket.
    Endpoint::from_static("http://localhost")
        .connect_timeout(Duration::from_secs(CRI_CONNECT_S_MAX))
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
}
