use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use keelstone_access::User;

use crate::{
    body::{full, Body},
    serve::{serve, Caller},
    state::State,
};

/// The API without a connection, for clients in the same process. Requests pass the same filters as others;
/// only the identity is given instead of proven.
#[derive(Clone)]
pub struct LocalService {
    state: Arc<State>,
    user: User,
}

impl LocalService {
    pub(crate) fn new(state: Arc<State>, user: User) -> Self {
        Self { state, user }
    }

    /// Answers one request.
    pub async fn call_local(&self, request: Request<Bytes>) -> Response<Body> {
        serve(self.state.clone(), Caller::Known(self.user.clone()), request.map(full)).await
    }
}

impl tower::Service<Request<Full<Bytes>>> for LocalService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        use http_body_util::BodyExt;
        let (state, user) = (self.state.clone(), self.user.clone());
        let request = request.map(|body| body.map_err(|never| match never {}).boxed_unsync());
        Box::pin(async move { Ok(serve(state, Caller::Known(user), request).await) })
    }
}
