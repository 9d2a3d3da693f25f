//! TLS in the simulation: plaintext after one line each way that carries the identity and the protocol.
//! rustls' provider reads the kernel's entropy, so the real one would end determinism.

use std::{io, sync::Arc};

use async_trait::async_trait;
use keelstone_env::{BoxedIo, ClientTls, Identity, ServerTls, Tls, TlsAcceptor, TlsConnector, TlsStream};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HELLO_BYTES_MAX: u32 = 64 << 10;

/// Stands in for a certificate's PEM text: what the other side will believe.
pub fn simulated_certificate(common_name: &str, organizations: &[&str]) -> String {
    let hello = Subject {
        common_name: common_name.to_owned(),
        organizations: organizations.iter().map(|&o| o.to_owned()).collect(),
    };
    serde_json::to_string(&hello).expect("a subject is plain text")
}

#[derive(Serialize, Deserialize)]
struct Subject {
    common_name: String,
    organizations: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Hello {
    subject: Option<Subject>,
    alpn: Vec<String>,
}

pub struct SimTls;

impl Tls for SimTls {
    fn server(&self, config: &ServerTls) -> io::Result<Arc<dyn TlsAcceptor>> {
        Ok(Arc::new(Acceptor(config.clone())))
    }

    fn client(&self, config: &ClientTls) -> io::Result<Arc<dyn TlsConnector>> {
        Ok(Arc::new(Connector(config.clone())))
    }
}

struct Acceptor(ServerTls);

#[async_trait]
impl TlsAcceptor for Acceptor {
    async fn accept(&self, mut io: BoxedIo) -> io::Result<TlsStream> {
        let hello = receive(&mut io).await?;
        let alpn = self.0.alpn.iter().find(|p| hello.alpn.contains(p)).cloned();
        let subject = subject_of(&self.0.certificate)?;
        send(&mut io, &Hello { subject: Some(subject), alpn: alpn.iter().cloned().collect() }).await?;
        let peer = self.0.client_ca.is_some().then_some(hello.subject).flatten().map(identity);
        if self.0.client_certificate_required && peer.is_none() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a client certificate is required"));
        }
        Ok(TlsStream { io, peer, alpn })
    }
}

struct Connector(ClientTls);

#[async_trait]
impl TlsConnector for Connector {
    async fn connect(&self, mut io: BoxedIo, _server_name: &str) -> io::Result<TlsStream> {
        let subject = self.0.identity.as_ref().map(|(certificate, _)| subject_of(certificate)).transpose()?;
        send(&mut io, &Hello { subject, alpn: self.0.alpn.clone() }).await?;
        let answer = receive(&mut io).await?;
        Ok(TlsStream { io, peer: answer.subject.map(identity), alpn: answer.alpn.into_iter().next() })
    }
}

fn identity(subject: Subject) -> Identity {
    Identity { common_name: subject.common_name, organizations: subject.organizations }
}

fn subject_of(certificate: &str) -> io::Result<Subject> {
    serde_json::from_str(certificate).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "in the simulation a certificate is simulated_certificate()'s text")
    })
}

async fn send(io: &mut BoxedIo, hello: &Hello) -> io::Result<()> {
    let text = serde_json::to_vec(hello)?;
    io.write_u32(text.len() as u32).await?;
    io.write_all(&text).await?;
    io.flush().await
}

async fn receive(io: &mut BoxedIo) -> io::Result<Hello> {
    let length = io.read_u32().await?;
    if length > HELLO_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the other side does not speak simulated TLS"));
    }
    let mut text = vec![0; length as usize];
    io.read_exact(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}
