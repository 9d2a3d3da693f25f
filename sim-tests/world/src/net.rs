use std::io;

use async_trait::async_trait;
use keelstone_env::{BoxedIo, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

/// turmoil's TCP. Hosts are reached by name; binding takes the port and listens on the host's address.
pub struct SimNet;

#[async_trait]
impl Net for SimNet {
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedIo> {
        Ok(Box::new(TcpStream::connect((host.to_owned(), port)).await?))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let port = address.rsplit(':').next().and_then(|p| p.parse::<u16>().ok());
        let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an address is host:port"))?;
        Ok(Box::new(SimListener(TcpListener::bind(("0.0.0.0", port)).await?)))
    }
}

struct SimListener(TcpListener);

#[async_trait]
impl Listener for SimListener {
    async fn accept(&self) -> io::Result<(BoxedIo, String)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Box::new(stream), peer.to_string()))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().map_or(0, |a| a.port())
    }

    fn address(&self) -> String {
        self.0.local_addr().map_or_else(|_| String::new(), |a| a.to_string())
    }
}
