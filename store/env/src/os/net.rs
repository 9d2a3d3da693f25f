use std::io;

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream};

use crate::{BoxedIo, Listener, Net};

pub struct OsNet;

#[async_trait]
impl Net for OsNet {
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedIo> {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        Ok(Box::new(OsListener(TcpListener::bind(address).await?)))
    }
}

struct OsListener(TcpListener);

#[async_trait]
impl Listener for OsListener {
    async fn accept(&self) -> io::Result<(BoxedIo, String)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Box::new(stream), peer.to_string()))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().map_or(0, |a| a.port())
    }

    fn address(&self) -> String {
        self.0.local_addr().map_or_else(|_| String::new(), |a| a.to_string())
    }
}
