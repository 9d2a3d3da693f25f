use std::{io, sync::Arc};

use http::{Request, Response};
use http_body_util::BodyExt;
use keelstone_client::{Body, BoxError, TcpOptions, TcpTransport, Transport};
use keelstone_env::Env;

/// A kube-rs client whose connections are those of `env`: of the simulated network in the simulation.
///
/// # Errors
/// Addresses or certificates that cannot be used.
pub fn kube_client(env: &Env, options: TcpOptions, namespace: &str) -> io::Result<kube::Client> {
    let transport = Arc::new(TcpTransport::new(env, options)?);
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let transport = transport.clone();
        async move { send(&transport, request).await }
    });
    Ok(kube::Client::new(service, namespace))
}

async fn send(transport: &TcpTransport, request: Request<kube::client::Body>) -> Result<Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(transport.send(Request::from_parts(head, body)).await?)
}
