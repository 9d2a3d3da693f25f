use std::{io, sync::Arc};

use async_trait::async_trait;
use rustls::{server::WebPkiClientVerifier, ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{BoxedIo, ClientTls, Identity, ServerTls, Tls, TlsAcceptor, TlsConnector, TlsStream};

/// TLS 1.2 and 1.3 by rustls, with ring as the only provider.
pub struct RustlsTls;

impl Tls for RustlsTls {
    fn server(&self, config: &ServerTls) -> io::Result<Arc<dyn TlsAcceptor>> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(invalid)?;
        let builder = match &config.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider());
                let verifier = if config.client_certificate_required {
                    verifier.build()
                } else {
                    verifier.allow_unauthenticated().build()
                };
                builder.with_client_cert_verifier(verifier.map_err(invalid)?)
            }
        };
        let mut server =
            builder.with_single_cert(certificates(&config.certificate)?, key(&config.key)?).map_err(invalid)?;
        server.alpn_protocols = alpn(&config.alpn);
        Ok(Arc::new(RustlsAcceptor(tokio_rustls::TlsAcceptor::from(Arc::new(server)))))
    }

    fn client(&self, config: &ClientTls) -> io::Result<Arc<dyn TlsConnector>> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(invalid)?
            .with_root_certificates(roots(&config.ca)?);
        let mut client = match &config.identity {
            None => builder.with_no_client_auth(),
            Some((chain, private)) => {
                builder.with_client_auth_cert(certificates(chain)?, key(private)?).map_err(invalid)?
            }
        };
        client.alpn_protocols = alpn(&config.alpn);
        Ok(Arc::new(RustlsConnector(tokio_rustls::TlsConnector::from(Arc::new(client)))))
    }
}

struct RustlsAcceptor(tokio_rustls::TlsAcceptor);

#[async_trait]
impl TlsAcceptor for RustlsAcceptor {
    async fn accept(&self, io: BoxedIo) -> io::Result<TlsStream> {
        let stream = self.0.accept(io).await?;
        let session = stream.get_ref().1;
        let peer = session.peer_certificates().and_then(|chain| identity(chain.first()?));
        let alpn = agreed(session.alpn_protocol());
        Ok(TlsStream { io: Box::new(stream), peer, alpn })
    }
}

struct RustlsConnector(tokio_rustls::TlsConnector);

#[async_trait]
impl TlsConnector for RustlsConnector {
    async fn connect(&self, io: BoxedIo, server_name: &str) -> io::Result<TlsStream> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(invalid)?;
        let stream = self.0.connect(name, io).await?;
        let session = stream.get_ref().1;
        let peer = session.peer_certificates().and_then(|chain| identity(chain.first()?));
        let alpn = agreed(session.alpn_protocol());
        Ok(TlsStream { io: Box::new(stream), peer, alpn })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

fn certificates(pem: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(invalid)?;
    if chain.is_empty() {
        return Err(invalid("no certificate in the PEM text"));
    }
    Ok(chain)
}

fn key(pem: &str) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(invalid)
}

fn roots(pem: &str) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(invalid)?;
    }
    Ok(store)
}

fn alpn(protocols: &[String]) -> Vec<Vec<u8>> {
    protocols.iter().map(|p| p.clone().into_bytes()).collect()
}

fn agreed(protocol: Option<&[u8]>) -> Option<String> {
    protocol.map(|p| String::from_utf8_lossy(p).into_owned())
}

/// Common name and organizations of a certificate's subject.
fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let common_name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some(Identity { common_name, organizations })
}
