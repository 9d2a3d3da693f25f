use std::{io, sync::Arc};

use async_trait::async_trait;

use crate::BoxedIo;

/// Who the other side's verified certificate says it is. Kubernetes reads the common name as the user and
/// the organizations as groups (API document "Authenticating", X509 client certificates).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// A server's side of TLS. All fields are PEM text.
#[derive(Clone, Debug, Default)]
pub struct ServerTls {
    pub certificate: String,
    pub key: String,
    /// Certificate authorities that clients' certificates are checked against; `None`: clients are not asked.
    pub client_ca: Option<String>,
    /// Refuse clients without a certificate (peers); otherwise a certificate is optional.
    pub client_certificate_required: bool,
    /// Protocols offered through ALPN, most wanted first: `h2`, `http/1.1`.
    pub alpn: Vec<String>,
}

/// A client's side of TLS. All fields are PEM text.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// Certificate authorities that the server's certificate is checked against.
    pub ca: String,
    /// Certificate and key, if the client has them.
    pub identity: Option<(String, String)>,
    pub alpn: Vec<String>,
}

/// An established session.
pub struct TlsStream {
    pub io: BoxedIo,
    /// The peer's verified identity, if it showed a certificate.
    pub peer: Option<Identity>,
    /// The protocol agreed through ALPN.
    pub alpn: Option<String>,
}

/// TLS: rustls in the real world; under simulation plaintext that carries the peer's identity.
pub trait Tls: Send + Sync + 'static {
    /// Prepares a server's side once; fails on PEM that cannot be used.
    fn server(&self, config: &ServerTls) -> io::Result<Arc<dyn TlsAcceptor>>;
    /// Prepares a client's side once; fails on PEM that cannot be used.
    fn client(&self, config: &ClientTls) -> io::Result<Arc<dyn TlsConnector>>;
}

#[async_trait]
pub trait TlsAcceptor: Send + Sync + 'static {
    async fn accept(&self, io: BoxedIo) -> io::Result<TlsStream>;
}

#[async_trait]
pub trait TlsConnector: Send + Sync + 'static {
    /// `server_name` is a DNS name or an IP address that the server's certificate must name.
    async fn connect(&self, io: BoxedIo, server_name: &str) -> io::Result<TlsStream>;
}
