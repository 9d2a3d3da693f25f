//! madsim's network as the core knows it, and the members' protocol on it: HTTP/2 by hyper, whose tasks are shuffled too.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::StreamExt;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use keelstone_env::{BoxedIo, Listener, Net, Tasks};
use keelstone_raft::PeerService;
use madsim::net::{TcpListener, TcpStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// TCP between madsim's nodes; hosts are IP addresses.
pub struct MadNet;

#[async_trait]
impl Net for MadNet {
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedIo> {
        let ip: IpAddr = host.parse().map_err(io::Error::other)?;
        Ok(Box::new(Stream::new(TcpStream::connect(SocketAddr::from((ip, port))).await?)))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(MadListener(TcpListener::bind(address).await?)))
    }
}

struct MadListener(TcpListener);

#[async_trait]
impl Listener for MadListener {
    async fn accept(&self) -> io::Result<(BoxedIo, String)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Box::new(Stream::new(stream)), peer.to_string()))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().map_or(0, |address| address.port())
    }

    fn address(&self) -> String {
        self.0.local_addr().map_or_else(|_| String::new(), |address| address.to_string())
    }
}

/// madsim sends a message, which takes its time, with every flush, also when there is nothing to send.
struct Stream {
    inner: TcpStream,
    written: bool,
}

impl Stream {
    fn new(inner: TcpStream) -> Self {
        Self { inner, written: false }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::take(&mut self.written) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Serves the members' protocol until the process ends.
pub async fn serve(listener: Box<dyn Listener>, service: PeerService) {
    let mut connections = Box::pin(keelstone_env::incoming(listener, None));
    while let Some(Ok(connection)) = connections.next().await {
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = hyper::server::conn::http2::Builder::new(Tasks);
            // A connection that breaks is the client's to make anew.
            let _ = server.serve_connection(TokioIo::new(connection), service).await;
        });
    }
}
