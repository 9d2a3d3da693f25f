use std::{
    io,
    pin::Pin,
    sync::{atomic::Ordering::Relaxed, Arc},
    task::{Context, Poll},
};

use async_trait::async_trait;
use keelstone_env::{BoxedIo, Listener, Net};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Traffic;

/// A network that counts the bytes of its connections.
pub(crate) struct MeteredNet {
    pub net: Arc<dyn Net>,
    pub traffic: Arc<Traffic>,
}

#[async_trait]
impl Net for MeteredNet {
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedIo> {
        let io = self.net.connect(host, port).await?;
        Ok(Box::new(MeteredIo { io, traffic: Arc::clone(&self.traffic) }))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let listener = self.net.bind(address).await?;
        Ok(Box::new(MeteredListener { listener, traffic: Arc::clone(&self.traffic) }))
    }
}

/// A listener that counts the bytes of its connections, TLS included.
pub(crate) struct MeteredListener {
    pub listener: Box<dyn Listener>,
    pub traffic: Arc<Traffic>,
}

#[async_trait]
impl Listener for MeteredListener {
    async fn accept(&self) -> io::Result<(BoxedIo, String)> {
        let (io, peer) = self.listener.accept().await?;
        Ok((Box::new(MeteredIo { io, traffic: Arc::clone(&self.traffic) }), peer))
    }

    fn port(&self) -> u16 {
        self.listener.port()
    }

    fn address(&self) -> String {
        self.listener.address()
    }
}

struct MeteredIo {
    io: BoxedIo,
    traffic: Arc<Traffic>,
}

impl MeteredIo {
    fn sent(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.traffic.sent_bytes.fetch_add(bytes as u64, Relaxed);
        }
        result
    }
}

impl AsyncRead for MeteredIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.io).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        self.traffic.received_bytes.fetch_add(read as u64, Relaxed);
        result
    }
}

impl AsyncWrite for MeteredIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(context, data);
        self.sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(context, data);
        self.sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
