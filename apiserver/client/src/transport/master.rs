use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{header, uri::PathAndQuery, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body as _, Frame, Incoming, SizeHint},
    client::conn::{http1, http2, TrySendError},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keelstone_env::{Env, TlsConnector};
use tokio::{
    task::AbortHandle,
    time::{timeout, Instant},
};

use super::{Body, BoxError, TransportError};
use crate::constants::{
    CONNECTION_WINDOW_BYTES, IDLE_CONNECTIONS_MAX, PING_INTERVAL_MS, PING_TIMEOUT_MS, STREAM_WINDOW_BYTES,
};

type Http1 = http1::SendRequest<Full<Bytes>>;
type Http2 = http2::SendRequest<Full<Bytes>>;

enum Link {
    Http1(Http1),
    Http2(Http2),
}

/// The connections to one master: one HTTP/2 connection, or a pool of HTTP/1.1 connections, whichever the
/// server speaks.
pub(super) struct Master {
    env: Env,
    pub address: String,
    host: String,
    port: u16,
    tls: Option<Arc<dyn TlsConnector>>,
    http2_plain: bool,
    connect_timeout: Duration,
    idle: Mutex<Vec<Http1>>,
    shared: Mutex<Option<Http2>>,
    /// The tasks of all open connections.
    connections: Mutex<Vec<AbortHandle>>,
    /// Held while dialling, so that one failure answers all who wait; inside: when it last failed.
    dialling: tokio::sync::Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Master {
    /// `None` if `address` is not `host:port`.
    pub fn new(
        env: &Env,
        address: &str,
        tls: Option<Arc<dyn TlsConnector>>,
        http2_plain: bool,
        connect_timeout: Duration,
    ) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Uri::builder().scheme("http").authority(address).path_and_query("/").build().ok()?;
        Some(Self {
            env: env.clone(),
            address: address.to_owned(),
            host: (!host.is_empty()).then(|| host.to_owned())?,
            port: port.parse().ok()?,
            tls,
            http2_plain,
            connect_timeout,
            idle: Mutex::default(),
            shared: Mutex::default(),
            connections: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        })
    }

    /// Sends one request. A connection that turns out to be closed before it took the request is replaced.
    pub async fn send(self: &Arc<Self>, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let mut request = self.addressed(request.map(Full::new))?;
        for _ in 0..=IDLE_CONNECTIONS_MAX {
            let sent = match self.link().await? {
                Link::Http2(mut link) => match link.try_send_request(request).await {
                    Ok(response) => Ok(response.map(|body| body.map_err(boxed).boxed_unsync())),
                    Err(error) => Err(error),
                },
                Link::Http1(mut link) => {
                    *request.uri_mut() = origin_form(request.uri());
                    match link.try_send_request(request).await {
                        Ok(response) => Ok(response.map(|body| self.pooled(body, link))),
                        Err(error) => Err(error),
                    }
                }
            };
            match sent {
                Ok(response) => return Ok(response),
                Err(error) => request = self.unsent(error)?,
            }
        }
        Err(TransportError::NotSent(format!("{}: connections close as soon as they open", self.address)))
    }

    /// The request back if it certainly was not sent.
    fn unsent(&self, mut error: TrySendError<Request<Full<Bytes>>>) -> Result<Request<Full<Bytes>>, TransportError> {
        let request = error.take_message();
        request.ok_or_else(|| TransportError::Unanswered(format!("{}: {}", self.address, error.into_error())))
    }

    fn addressed(&self, mut request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, TransportError> {
        let bad = |text: String| TransportError::NotSent(text);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(scheme).authority(self.address.as_str()).path_and_query(path).build();
        *request.uri_mut() = uri.map_err(|e| bad(e.to_string()))?;
        let host = HeaderValue::from_str(&self.address).map_err(|e| bad(e.to_string()))?;
        request.headers_mut().insert(header::HOST, host);
        Ok(request)
    }

    fn existing(&self) -> Option<Link> {
        if let Some(link) = lock(&self.shared).as_ref().filter(|link| !link.is_closed()) {
            return Some(Link::Http2(link.clone()));
        }
        None
    }

    async fn link(&self) -> Result<Link, TransportError> {
        if let Some(link) = self.existing() {
            return Ok(link);
        }
        loop {
            let idle = lock(&self.idle).pop();
            match idle {
                None => break,
                Some(mut link) => {
                    if link.ready().await.is_ok() {
                        return Ok(Link::Http1(link));
                    }
                }
            }
        }
        let waiting_since = self.env.now();
        let mut failed = self.dialling.lock().await;
        if let Some(link) = self.existing() {
            return Ok(link);
        }
        if failed.is_some_and(|at| at > waiting_since) {
            return Err(TransportError::NotSent(format!("{}: just failed to connect", self.address)));
        }
        let dialled = match timeout(self.connect_timeout, self.dial()).await {
            Ok(dialled) => dialled,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match dialled {
            Ok(link) => Ok(link),
            Err(error) => {
                *failed = Some(self.env.now());
                Err(TransportError::NotSent(format!("{}: {error}", self.address)))
            }
        }
    }

    async fn dial(&self) -> io::Result<Link> {
        let io = self.env.net().connect(&self.host, self.port).await?;
        let (io, http2) = match &self.tls {
            None => (io, self.http2_plain),
            Some(tls) => {
                let session = tls.connect(io, &self.host).await?;
                (session.io, session.alpn.as_deref() == Some("h2"))
            }
        };
        if http2 {
            let (link, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(Duration::from_millis(PING_INTERVAL_MS))
                .keep_alive_timeout(Duration::from_millis(PING_TIMEOUT_MS))
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .handshake(TokioIo::new(io))
                .await
                .map_err(io::Error::other)?;
            self.drive(connection);
            *lock(&self.shared) = Some(link.clone());
            return Ok(Link::Http2(link));
        }
        let (mut link, connection) = http1::handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
        self.drive(connection);
        link.ready().await.map_err(io::Error::other)?;
        Ok(Link::Http1(link))
    }

    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        let address = self.address.clone();
        let task = self.env.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "connection to the API server ended");
            }
        });
        let mut connections = lock(&self.connections);
        connections.retain(|connection| !connection.is_finished());
        connections.push(task.abort_handle());
    }

    /// Closes all connections, those in use too.
    pub fn disconnect(&self) {
        *lock(&self.shared) = None;
        lock(&self.idle).clear();
        lock(&self.connections).drain(..).for_each(|connection| connection.abort());
    }

    fn pooled(self: &Arc<Self>, body: Incoming, link: Http1) -> Body {
        if body.is_end_stream() {
            self.keep(link);
            return body.map_err(boxed).boxed_unsync();
        }
        PooledBody { body, link: Some((link, self.clone())) }.map_err(boxed).boxed_unsync()
    }

    fn keep(&self, link: Http1) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_CONNECTIONS_MAX && !link.is_closed() {
            idle.push(link);
        }
    }
}

fn boxed(error: hyper::Error) -> BoxError {
    Box::new(error)
}

/// HTTP/1.1 sends path and query only.
fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map(Uri::from).unwrap_or_default()
}

/// A response body that gives its connection back to the pool at its end; dropped earlier, it closes it.
struct PooledBody {
    body: Incoming,
    link: Option<(Http1, Arc<Master>)>,
}

impl hyper::body::Body for PooledBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(None) = frame {
            if let Some((link, master)) = self.link.take() {
                master.keep(link);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        // Read to the end, so that the connection is given back.
        self.link.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
