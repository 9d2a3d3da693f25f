use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

pub type BoxedIo = Box<dyn Io>;

#[async_trait]
pub trait Net: Send + Sync + 'static {
    /// Connects over TCP. `host` is a name or an IP address without brackets.
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedIo>;

    /// Listens on `address` (`host:port`; port 0 takes a free one).
    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>>;
}

#[async_trait]
pub trait Listener: Send + Sync + 'static {
    /// The next connection and the peer's address as text (`ip:port`).
    async fn accept(&self) -> io::Result<(BoxedIo, String)>;

    /// The port that is listened on.
    fn port(&self) -> u16;

    /// The address that is listened on, as `ip:port`.
    fn address(&self) -> String;
}
