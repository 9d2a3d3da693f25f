//! Connections of the load generator: HTTP/2 without the layers that a product's client would want.

use std::{
    io,
    task::{Context, Poll},
};

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keelstone_etcd_api::pb::{
    kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use tokio::net::TcpStream;
use tonic::body::Body;

use crate::{
    constants::{CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES},
    unary::Unary,
};

/// The way to one member. Clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Body>,
    origin: http::Uri,
    /// A connection of its own, for the calls that most rows consist of.
    pub unary: Unary,
}

impl tower_service::Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

impl Connection {
    pub async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Its end shows in the calls.
        tokio::spawn(async move { drop(connection.await) });
        let origin = format!("http://127.0.0.1:{port}").parse().map_err(io::Error::other)?;
        Ok(Self { sender, origin, unary: Unary::open(port).await? })
    }

    pub fn kv(&self) -> KvClient<Self> {
        KvClient::with_origin(self.clone(), self.origin.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn lease(&self) -> LeaseClient<Self> {
        LeaseClient::with_origin(self.clone(), self.origin.clone())
    }

    pub fn watch(&self) -> WatchClient<Self> {
        WatchClient::with_origin(self.clone(), self.origin.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub fn maintenance(&self) -> MaintenanceClient<Self> {
        MaintenanceClient::with_origin(self.clone(), self.origin.clone())
    }
}
