use std::marker::PhantomData;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Service, ServiceExt};

use super::{Body, BoxError, Transport, TransportError};

/// A transport to a service in the same process, without a connection. `ReqBody` is what the service takes:
/// anything made from `Bytes`, such as `http_body_util::Full<Bytes>`.
pub struct InProcess<S, ReqBody> {
    service: S,
    body: PhantomData<fn(ReqBody)>,
}

impl<S, ReqBody> InProcess<S, ReqBody> {
    /// The service is cloned for each request.
    pub fn new(service: S) -> Self {
        Self { service, body: PhantomData }
    }
}

#[async_trait]
impl<S, ReqBody, ResBody> Transport for InProcess<S, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    ReqBody: From<Bytes> + Send + 'static,
    ResBody: hyper::body::Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<BoxError>,
{
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let answer = self.service.clone().oneshot(request.map(ReqBody::from)).await;
        let response = answer.map_err(|e| TransportError::Unanswered(e.into().to_string()))?;
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}
