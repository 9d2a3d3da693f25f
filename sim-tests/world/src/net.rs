use std::io;

use async_trait::async_trait;
use keelstone_env::{BoxedIo, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

use crate::connections::Connections;

/// turmoil's TCP. Hosts are reached by name; binding takes the port and listens on the host's address.
pub struct SimNet(pub Connections);

#[async_trait]
impl Net for SimNet {
    async fn connect(&self, host: &str, port: u16) -> io::Result<BoxedIo> {
        let stream = TcpStream::connect((host.to_owned(), port)).await?;
        let peer = stream.peer_addr()?.ip();
        Ok(Box::new(self.0.open(&name(peer), stream)))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let port = address.rsplit(':').next().and_then(|p| p.parse::<u16>().ok());
        let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an address is host:port"))?;
        Ok(Box::new(SimListener(TcpListener::bind(("0.0.0.0", port)).await?, self.0.clone())))
    }
}

/// The name of the host with this address.
fn name(address: std::net::IpAddr) -> String {
    turmoil::reverse_lookup(address).unwrap_or_else(|| address.to_string())
}

struct SimListener(TcpListener, Connections);

#[async_trait]
impl Listener for SimListener {
    async fn accept(&self) -> io::Result<(BoxedIo, String)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Box::new(self.1.open(&name(peer.ip()), stream)), peer.to_string()))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().map_or(0, |a| a.port())
    }

    fn address(&self) -> String {
        self.0.local_addr().map_or_else(|_| String::new(), |a| a.to_string())
    }
}
