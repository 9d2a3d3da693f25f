use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::{pin_mut, StreamExt};
use http::{
    header::{self, CONTENT_TYPE},
    Request, Response,
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use keelstone_env::{incoming, one_task, Calls, GrpcPeer, GrpcStream, Listener, TlsAcceptor};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::{body::Body, service::Routes, transport::server::Connected};
use tower::Service;

use crate::{
    constants::*,
    gateway::Gateway,
    grpc::{direct_method, Services},
    http::answer,
    member::Member,
};

/// Serves gRPC and plain HTTP on one port, as etcd does: the content type of a request tells them apart.
#[derive(Clone)]
pub(crate) struct ClientListener {
    member: Arc<Member>,
    /// The services, and the way to all of them; `None`: health and metrics alone.
    grpc: Option<(Services, Routes)>,
    gateway: Option<Gateway>,
    connections: TaskTracker,
}

impl ClientListener {
    /// Without `services`, health and metrics alone are served.
    pub fn new(member: Arc<Member>, services: Option<Services>) -> Self {
        let message_bytes_max = member.limits.request_bytes_max + GRPC_OVERHEAD_BYTES;
        let grpc = services.map(|services| (services.clone(), services.client_routes()));
        let gateway = grpc.as_ref().map(|(_, routes)| Gateway::new(routes.clone(), message_bytes_max));
        Self { member, grpc, gateway, connections: TaskTracker::new() }
    }

    /// Accepts connections until the member stops; ends when they have been drained or
    /// [`DRAIN_TIME_MAX`] is over.
    pub async fn run(self, listener: Box<dyn Listener>, tls: Option<Arc<dyn TlsAcceptor>>) {
        let accepted = incoming(listener, tls);
        pin_mut!(accepted);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let stopping = self.member.stopping.clone();
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await.ok()?;
                Some((place, accepted.next().await?.ok()?))
            };
            let (place, stream) = tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                next = next => match next {
                    Some(next) => next,
                    None => break,
                },
            };
            let connection = self.clone().serve(stream);
            self.connections.spawn(async move {
                connection.await;
                drop(place);
            });
        }
        self.connections.close();
        if tokio::time::timeout(DRAIN_TIME_MAX, self.connections.wait()).await.is_err() {
            tracing::info!(open = self.connections.len(), "connections were still open at shutdown");
        }
    }

    async fn serve(self, stream: GrpcStream) {
        let peer = stream.connect_info();
        let stopping = self.member.stopping.clone();
        let (io, calls, turns) = one_task(stream.into_io());
        let shared = Arc::new(Connection { listener: self, peer: peer.clone(), calls: calls.clone() });
        let service = hyper::service::service_fn(|request| route(Arc::clone(&shared), request));
        let builder = builder(calls);
        let mut connection = turns.run(builder.serve_connection(TokioIo::new(io), service));
        let served = tokio::select! {
            biased;
            served = &mut connection => served,
            () = stopping.cancelled() => {
                connection.connection().graceful_shutdown();
                match tokio::time::timeout(DRAIN_TIME_MAX, connection).await {
                    Ok(served) => served,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = served {
            // A client that went away in the middle of something; its calls were cancelled with it.
            tracing::debug!(peer = %peer.address, %error, "a client connection ended");
        }
    }
}

/// What the requests of a connection share.
struct Connection {
    listener: ClientListener,
    peer: GrpcPeer,
    calls: Calls,
}

/// Answers one request of a connection.
async fn route(connection: Arc<Connection>, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let Connection { listener, peer, calls } = &*connection;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_grpc = content_type.is_some_and(|value| value.starts_with("application/grpc"));
    if let (true, Some((services, routes))) = (is_grpc, &listener.grpc) {
        if peer.identity.is_some() {
            request.extensions_mut().insert(peer.clone());
        }
        if let Some(method) = direct_method(request.uri().path()) {
            return Ok(services.call_directly(method, request).await);
        }
        request.extensions_mut().insert(calls.clone());
        return routes.clone().call(request).await;
    }
    // Boxed, so that each call's task does not have room for it.
    Ok(Box::pin(plain(listener, request)).await)
}

/// Answers plain HTTP.
async fn plain(listener: &ClientListener, request: Request<Incoming>) -> Response<Body> {
    let mut response = if request.method() == http::Method::OPTIONS {
        Response::new(Body::empty())
    } else if let (true, Some(gateway)) = (Gateway::serves(request.uri().path()), listener.gateway.clone()) {
        gateway.answer(request).await
    } else {
        let (parts, body) = answer(&listener.member, request.method(), request.uri()).await.into_parts();
        Response::from_parts(parts, Body::new(Full::new(Bytes::from(body))))
    };
    allow_origins(response.headers_mut());
    response
}

/// Browsers may call from any page, as with etcd's default `--cors=*`.
fn allow_origins(headers: &mut http::HeaderMap) {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "accept, content-type, authorization"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
}

fn builder(calls: Calls) -> auto::Builder<Calls> {
    let mut builder = auto::Builder::new(calls);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HTTP1_HEADER_TIME_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .keep_alive_interval(Some(HTTP2_PING_INTERVAL))
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    builder
}
