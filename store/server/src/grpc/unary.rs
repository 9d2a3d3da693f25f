//! The calls of KV that are nearly all traffic, without the layers of a general server.
//!
//! A general gRPC server boxes the request's body, the service's future and the response's body at each layer
//! (routing, codec, interceptors). Here one message is read, one method called, and one frame with its trailers
//! is the answer. What is not among these calls goes the general way.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{header::CONTENT_TYPE, request::Parts, HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use keelstone_etcd_api::pb::kv_server::Kv;
use prost::Message;
use tonic::{body::Body, metadata::MetadataMap, Request, Status};

use super::Services;
use crate::{constants::GRPC_OVERHEAD_BYTES, method::Method};

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// The method of a path that is served here.
pub(crate) fn direct_method(path: &str) -> Option<Method> {
    match path.strip_prefix("/etcdserverpb.KV/")? {
        "Range" => Some(Method::Range),
        "Put" => Some(Method::Put),
        "DeleteRange" => Some(Method::DeleteRange),
        "Txn" => Some(Method::Txn),
        _ => None,
    }
}

impl Services {
    /// Answers a call of a [`direct_method`], by the same functions as the general way.
    pub(crate) async fn call_directly(&self, method: Method, request: http::Request<Incoming>) -> Response<Body> {
        match self.dispatch(method, request).await {
            Ok(response) => response,
            Err(status) => status.into_http(),
        }
    }

    async fn dispatch(&self, method: Method, request: http::Request<Incoming>) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let bytes_max = self.member.limits.request_bytes_max + GRPC_OVERHEAD_BYTES;
        let message = read_message(body, bytes_max).await?;
        match method {
            Method::Range => answer(Kv::range(self, typed(head, message)?).await?.get_ref()),
            Method::Put => answer(Kv::put(self, typed(head, message)?).await?.get_ref()),
            Method::DeleteRange => answer(Kv::delete_range(self, typed(head, message)?).await?.get_ref()),
            Method::Txn => answer(Kv::txn(self, typed(head, message)?).await?.get_ref()),
            _ => Err(Status::unimplemented("not served here")),
        }
    }
}

/// The request as the services take it, with its metadata and who sent it.
fn typed<M: Message + Default>(head: Parts, message: Bytes) -> Result<Request<M>, Status> {
    let message = M::decode(message).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Request::from_parts(MetadataMap::from_headers(head.headers), head.extensions, message))
}

/// Reads the one message of a unary call to the end of its stream.
async fn read_message(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Status> {
    let mut whole = Bytes::new();
    // Used only by a message that comes in several frames.
    let mut parts = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| Status::from_error(Box::new(error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.is_empty() && parts.is_empty() {
            whole = data;
        } else {
            parts.extend_from_slice(&std::mem::take(&mut whole));
            parts.extend_from_slice(&data);
        }
        check_length(if parts.is_empty() { &whole } else { &parts }, bytes_max)?;
    }
    let mut message = if parts.is_empty() { whole } else { parts.freeze() };
    if message.len() < PREFIX_BYTES {
        return Err(Status::internal("Missing request message."));
    }
    let (compressed, length) = (message.get_u8(), message.get_u32() as usize);
    if compressed != 0 {
        return Err(Status::unimplemented("Message compressed, compression support not enabled."));
    }
    if message.len() != length {
        return Err(Status::internal("Unexpected EOF decoding stream."));
    }
    Ok(message)
}

/// Refuses a message as soon as its length is known, or when more comes than one message.
fn check_length(received: &[u8], bytes_max: usize) -> Result<(), Status> {
    let announced = match received.get(1..PREFIX_BYTES) {
        Some(length) => length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        None => 0,
    };
    if announced > bytes_max {
        return Err(Status::out_of_range(format!(
            "Error, decoded message length too large: found {announced} bytes, the limit is: {bytes_max} bytes"
        )));
    }
    if received.len() > PREFIX_BYTES && received.len() - PREFIX_BYTES > announced {
        return Err(Status::internal("more than one message in a unary call"));
    }
    Ok(())
}

/// The response that carries `message` and says that the call succeeded.
fn answer(message: &impl Message) -> Result<Response<Body>, Status> {
    let length = message.encoded_len();
    let announced = u32::try_from(length).map_err(|_| Status::resource_exhausted("the answer exceeds 4 GiB"))?;
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(announced);
    message.encode(&mut frame).map_err(|error| Status::internal(error.to_string()))?;
    let mut response = Response::new(Body::new(Answer { frame: Some(frame.freeze()), ended: false }));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    Ok(response)
}

/// One message, then the trailers.
struct Answer {
    frame: Option<Bytes>,
    ended: bool,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(frame) = self.frame.take() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS, OK);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
