//! tonic over [`Env`]: a channel that dials through `env.net()`, and a stream of accepted connections.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{stream, Stream};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{server::Connected, Channel, Endpoint};

use crate::{BoxedIo, Env, Identity, Listener, TlsAcceptor, TlsConnector};

/// Connections in their TLS handshake at one time; more wait in the kernel's queue.
pub const HANDSHAKES_MAX: usize = 256;
/// A TLS handshake that takes longer is given up.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;

/// How [`channel`] behaves.
#[derive(Clone)]
pub struct ChannelOptions {
    pub tls: Option<Arc<dyn TlsConnector>>,
    pub connect_timeout: Duration,
    /// HTTP/2 pings go out so often, also without calls in flight, and must be answered within
    /// `keep_alive_timeout`; else the connection is closed and its calls fail.
    pub keep_alive_interval: Duration,
    pub keep_alive_timeout: Duration,
    pub stream_window_bytes: u32,
    pub connection_window_bytes: u32,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            tls: None,
            connect_timeout: Duration::from_secs(1),
            keep_alive_interval: Duration::from_secs(1),
            keep_alive_timeout: Duration::from_secs(2),
            stream_window_bytes: 4 << 20,
            connection_window_bytes: 16 << 20,
        }
    }
}

/// With tonic's own tasks and timers, which are tokio's.
#[cfg(not(madsim))]
fn driven(endpoint: Endpoint, options: &ChannelOptions) -> Endpoint {
    endpoint
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        .keep_alive_while_idle(true)
}

/// With tasks on madsim. tonic's timers cannot go there, so nothing notices a silent connection but its calls.
#[cfg(madsim)]
fn driven(endpoint: Endpoint, _: &ChannelOptions) -> Endpoint {
    endpoint.executor(Tasks)
}

/// Where hyper's and tonic's tasks run: beside all others.
#[cfg(madsim)]
#[derive(Clone, Copy, Debug)]
pub struct Tasks;

#[cfg(madsim)]
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: std::future::Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        drop(tokio::spawn(task));
    }
}

/// A lazy channel to `address` (`host:port`) that reconnects by itself.
///
/// # Errors
/// If `address` is not `host:port`.
pub fn channel(env: &Env, address: &str, options: ChannelOptions) -> io::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(io::Error::other)?;
    let endpoint = driven(endpoint, &options)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes);
    let (env, tls) = (env.clone(), options.tls);
    let connect_timeout = options.connect_timeout;
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: http::Uri| {
        let (env, tls) = (env.clone(), tls.clone());
        async move {
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
            let port = uri.port_u16().unwrap_or(80);
            let dial = async {
                let io = env.net().connect(&host, port).await?;
                match tls {
                    None => Ok(io),
                    Some(tls) => Ok(tls.connect(io, &host).await?.io),
                }
            };
            match tokio::time::timeout(connect_timeout, dial).await {
                Ok(result) => result.map(TokioIo::new),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            }
        }
    })))
}

/// Who is on the other side of a served connection; found in a request's extensions.
#[derive(Clone, Debug, Default)]
pub struct GrpcPeer {
    /// `ip:port`
    pub address: String,
    /// From the client's verified certificate.
    pub identity: Option<Identity>,
}

/// A served connection.
pub struct GrpcStream {
    io: BoxedIo,
    peer: GrpcPeer,
}

impl GrpcStream {
    pub fn into_io(self) -> BoxedIo {
        self.io
    }
}

impl Connected for GrpcStream {
    type ConnectInfo = GrpcPeer;

    fn connect_info(&self) -> GrpcPeer {
        self.peer.clone()
    }
}

impl AsyncRead for GrpcStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for GrpcStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    // Without it each frame's head and body would be written by a call of their own.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Accepted connections, for tonic's `serve_with_incoming`. A failed or slow handshake ends that connection
/// alone and never delays the others.
pub fn incoming(
    listener: Box<dyn Listener>,
    tls: Option<Arc<dyn TlsAcceptor>>,
) -> impl Stream<Item = io::Result<GrpcStream>> + Send {
    let (sender, receiver) = tokio::sync::mpsc::channel(HANDSHAKES_MAX);
    tokio::spawn(accept_all(listener, tls, sender));
    stream::unfold(receiver, |mut receiver| async move { Some((Ok(receiver.recv().await?), receiver)) })
}

async fn accept_all(
    listener: Box<dyn Listener>,
    tls: Option<Arc<dyn TlsAcceptor>>,
    sender: tokio::sync::mpsc::Sender<GrpcStream>,
) {
    loop {
        // A place in the queue is taken first, so that at most HANDSHAKES_MAX connections are in the making.
        let Ok(place) = sender.clone().reserve_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Err(error) => {
                // Out of file descriptors, or a connection that ended before it was accepted.
                tracing::info!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok((io, address)) => {
                match tls.clone() {
                    None => drop(place.send(GrpcStream { io, peer: GrpcPeer { address, identity: None } })),
                    Some(tls) => drop(tokio::spawn(async move {
                        let handshake = tokio::time::timeout(Duration::from_millis(HANDSHAKE_MS_MAX), tls.accept(io));
                        match handshake.await {
                            Ok(Ok(session)) => drop(place.send(GrpcStream {
                                io: session.io,
                                peer: GrpcPeer { address, identity: session.peer },
                            })),
                            Ok(Err(error)) => tracing::info!(%address, %error, "TLS handshake failed"),
                            Err(_) => tracing::debug!(%address, "TLS handshake timed out"),
                        }
                    })),
                }
            }
        }
    }
}
