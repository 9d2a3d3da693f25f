//! The gRPC services as JSON over HTTP/1.1, as etcd's gateway serves them under `/v3`.
//!
//! A call is read by its method's descriptor, sent to the very services that gRPC clients reach, and its answer
//! written by the descriptor again: no method is mapped by hand, and none behaves in another way than over gRPC.

mod frames;
#[cfg(test)]
mod fuzz;
mod json;
mod routes;
mod values;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use http::{header, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Full, StreamBody};
use hyper::body::Incoming;
use tonic::{body::Body, service::Routes, Status};
use tower::Service;

use self::{
    frames::{frame, Frames},
    json::Shape,
    values::Values,
};

/// What comes from HTTP headers into a call's metadata: these by their own names, and all that begin with
/// [`METADATA_PREFIX`] without it.
const PASSED_HEADERS: [HeaderName; 2] = [header::AUTHORIZATION, HeaderName::from_static("grpc-timeout")];
const METADATA_PREFIX: &str = "grpc-metadata-";

/// The gateway of one member; cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    services: Routes,
    shapes: Arc<BTreeMap<&'static str, Shape>>,
    request_bytes_max: usize,
}

impl Gateway {
    /// A gateway to `services`; a request's JSON may be twice as long as the message that it stands for.
    pub fn new(services: Routes, message_bytes_max: usize) -> Self {
        let shapes = match json::pool() {
            Ok(pool) => {
                let shape = |(_, method): &(&str, &'static str)| Some((*method, json::shape(&pool, method)?));
                routes::ROUTES.iter().filter_map(shape).collect()
            }
            Err(error) => {
                tracing::error!(%error, "the contract's descriptors cannot be read");
                BTreeMap::new()
            }
        };
        Self { services, shapes: Arc::new(shapes), request_bytes_max: message_bytes_max.saturating_mul(2) }
    }

    /// True if the path is below the gateway's prefixes.
    pub fn serves(path: &str) -> bool {
        routes::below(path).is_some()
    }

    /// Answers one call.
    pub async fn answer(mut self, request: Request<Incoming>) -> Response<Body> {
        let method = routes::below(request.uri().path()).and_then(routes::method);
        let Some((name, shape)) = method.and_then(|name| Some((name, self.shapes.get(name)?.clone()))) else {
            return text(StatusCode::NOT_FOUND, "Not Found\n");
        };
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        }
        match self.call(name, &shape, request).await {
            Ok(response) => response,
            Err(status) => failed(&status),
        }
    }

    /// Makes one call. It carries nothing of the connection: who holds a certificate is not its user here, as with
    /// etcd's gateway, only a token says who calls.
    async fn call(&mut self, name: &str, shape: &Shape, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let metadata = metadata(request.headers());
        let mut values = Values::new(request.into_body(), self.request_bytes_max);
        let first = first_message(&mut values, shape).await?;
        let body = match shape.client_streaming {
            false => Body::new(Full::new(first)),
            true => Body::new(StreamBody::new(messages(first, values, shape.clone()))),
        };
        let mut call = Request::new(body);
        *call.method_mut() = Method::POST;
        *call.version_mut() = http::Version::HTTP_2;
        *call.uri_mut() = format!("/{name}").parse().map_err(|_| Status::internal("the method's name is no path"))?;
        *call.headers_mut() = metadata;
        let answer = match self.services.call(call).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        if let Some(status) = Status::from_header_map(answer.headers()).filter(|s| s.code() != tonic::Code::Ok) {
            return Err(status);
        }
        let mut frames = Frames::new(answer.into_body());
        // An answer that fails before its first message fails as a whole.
        let first = frames.next().await?;
        let body = match shape.server_streaming {
            false => {
                let message = first.ok_or_else(|| Status::internal("the call answered nothing"))?;
                // The status follows the message.
                while frames.next().await?.is_some() {}
                Body::new(Full::new(Bytes::from(json::encode(&shape.output, message)?)))
            }
            true => Body::new(StreamBody::new(lines(first, frames, shape.clone()))),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let of_grpc = HeaderName::from_static("grpc-metadata-content-type");
        response.headers_mut().insert(of_grpc, HeaderValue::from_static("application/grpc"));
        Ok(response)
    }
}

/// The first message; one with only defaults if the body is empty.
async fn first_message(values: &mut Values<Incoming>, shape: &Shape) -> Result<Bytes, Status> {
    let read = async {
        match values.next().await? {
            Some(value) => Ok(frame(&json::decode(&shape.input, &value)?)),
            None => Ok(frame(&[])),
        }
    };
    let read: Result<Bytes, Status> = read.await;
    // grpc-gateway does not call a stream's first message an argument.
    read.map_err(|status| if shape.client_streaming { Status::unknown(status.message()) } else { status })
}

/// The messages of a client's stream. A broken one ends the stream: the services see that the client is gone.
fn messages(
    first: Bytes,
    mut values: Values<Incoming>,
    shape: Shape,
) -> impl futures::Stream<Item = Result<http_body::Frame<Bytes>, Status>> + Send {
    async_stream::stream! {
        yield Ok(http_body::Frame::data(first));
        loop {
            let next = match values.next().await {
                Ok(None) => break,
                Ok(Some(value)) => json::decode(&shape.input, &value),
                Err(status) => Err(status),
            };
            let failed = next.is_err();
            yield next.map(|message| http_body::Frame::data(frame(&message)));
            if failed {
                break;
            }
        }
    }
}

/// A streamed answer, one JSON object a line.
fn lines(
    first: Option<Bytes>,
    mut frames: Frames<Body>,
    shape: Shape,
) -> impl futures::Stream<Item = Result<http_body::Frame<Bytes>, Status>> + Send {
    let lines = async_stream::stream! {
        let mut next = Ok(first);
        loop {
            let encoded = match next {
                Ok(None) => break,
                Ok(Some(message)) => json::encode(&shape.output, message),
                Err(status) => Err(status),
            };
            match encoded {
                Ok(message) => yield Bytes::from([b"{\"result\":", &message[..], b"}\n"].concat()),
                Err(status) => {
                    yield Bytes::from(json::error_line(&status));
                    break;
                }
            }
            next = frames.next().await;
        }
    };
    lines.map(|line| Ok(http_body::Frame::data(line)))
}

fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    for (name, value) in headers {
        if PASSED_HEADERS.contains(name) {
            metadata.insert(name.clone(), value.clone());
        } else if let Some(key) = name.as_str().strip_prefix(METADATA_PREFIX) {
            if let Ok(key) = HeaderName::from_bytes(key.as_bytes()) {
                if key != header::CONTENT_TYPE && key != header::TE {
                    metadata.insert(key, value.clone());
                }
            }
        }
    }
    metadata
}

fn failed(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(json::error_body(status)))));
    *response.status_mut() = json::http_status(status.code());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, said: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from_static(said.as_bytes()))));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_contract_has_a_path_and_every_path_a_method() {
        let pool = json::pool().unwrap();
        for (path, method) in routes::ROUTES {
            assert!(json::shape(&pool, method).is_some(), "{path}: {method}");
        }
        let served = pool.services().filter(|service| service.package_name() != "grpc.health.v1");
        for method in served.flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let name = format!("{}/{}", method.parent_service().full_name(), method.name());
            assert!(routes::ROUTES.iter().any(|(_, known)| *known == name), "{name} has no path");
        }
    }

    #[test]
    fn paths_below_both_prefixes_are_the_gateways() {
        assert_eq!(routes::below("/v3/kv/range").and_then(routes::method), Some("etcdserverpb.KV/Range"));
        assert_eq!(routes::below("/v3beta/kv/range").and_then(routes::method), Some("etcdserverpb.KV/Range"));
        assert!(Gateway::serves("/v3/nonsense") && routes::below("/v3/nonsense").and_then(routes::method).is_none());
        assert!(!Gateway::serves("/version") && !Gateway::serves("/v3"));
    }

    #[test]
    fn headers_become_metadata_but_never_the_content_type() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "token"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-content-type", "text/html"),
            ("cookie", "no"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let metadata = metadata(&headers);
        assert_eq!(metadata["authorization"], "token");
        assert_eq!(metadata["hasleader"], "true");
        assert_eq!(metadata["content-type"], "application/grpc");
        assert!(!metadata.contains_key("cookie"));
    }
}
