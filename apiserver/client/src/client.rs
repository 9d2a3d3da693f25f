use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{future::BoxFuture, FutureExt};
use http::{header, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::Resource;
use keelstone_env::Env;
use keelstone_machinery::{gvk::GroupVersionResource, status::ApiStatus};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{timeout_at, Instant};

use crate::{
    api::Api,
    constants::{REQUEST_MS_MAX, RESPONSE_BYTES_MAX, RETRY_AFTER_S_MAX, THROTTLE_RETRIES_MAX},
    error::{ClientError, ClientResult},
    object::{DynamicObject, Object},
    transport::{Body, TcpOptions, TcpTransport, Transport, TransportError},
};

/// Decides, just before a mutating request is sent, whether it still may be: the fence of a leader.
pub trait WriteGuard: Send + Sync + 'static {
    /// # Errors
    /// [`ClientError::NotLeader`] if the write must not be sent.
    fn check(&self) -> ClientResult<()>;

    /// A write must have been answered by then, or it is given up.
    fn deadline(&self) -> Option<Instant>;

    /// The version of a write that was sent at `since` or later and took effect, if the guard knows of one. All writes
    /// that lay in a log of the store by then have taken effect up to that version, or never will.
    fn written_since(&self, since: Instant) -> Option<u64>;
}

/// A client of the Kubernetes API. Cheap to clone; all clones share connections.
#[derive(Clone)]
pub struct Client {
    env: Env,
    transport: Arc<dyn Transport>,
    /// Goes out as User-Agent and as the field manager of writes.
    name: Arc<str>,
    guard: Option<Arc<dyn WriteGuard>>,
}

impl Client {
    /// A client over any transport; see [`crate::InProcess`].
    pub fn new(env: Env, transport: impl Transport) -> Self {
        Self { env, transport: Arc::new(transport), name: "keelstone".into(), guard: None }
    }

    /// A client over TCP that fails over between masters.
    ///
    /// # Errors
    /// If there are no addresses, or the TLS material cannot be used.
    pub fn tcp(env: &Env, options: TcpOptions) -> io::Result<Self> {
        Ok(Self::new(env.clone(), TcpTransport::new(env, options)?))
    }

    /// The same client with another User-Agent and field manager, e.g. `kube-scheduler`.
    pub fn named(&self, name: &str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// The same client, whose writes are refused once `guard` says so.
    pub fn guarded(&self, guard: Arc<dyn WriteGuard>) -> Self {
        Self { guard: Some(guard), ..self.clone() }
    }

    /// The same client without a guard: for what is done outside leadership (events, leases).
    pub fn unguarded(&self) -> Self {
        Self { guard: None, ..self.clone() }
    }

    pub fn guard(&self) -> Option<&Arc<dyn WriteGuard>> {
        self.guard.as_ref()
    }

    pub fn env(&self) -> &Env {
        &self.env
    }

    /// User agent and field manager.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All objects of a type: in all namespaces, or cluster-scoped.
    pub fn resource<T: Object + Resource>(&self) -> Api<T> {
        Api::new(self.clone(), GroupVersionResource::new(T::GROUP, T::VERSION, T::URL_PATH_SEGMENT), None)
    }

    /// The objects of a type in one namespace.
    pub fn namespaced<T: Object + Resource>(&self, namespace: &str) -> Api<T> {
        self.resource::<T>().within(namespace)
    }

    /// Objects of any resource, as JSON; in all namespaces, or cluster-scoped, until [`Api::within`] narrows it.
    pub fn dynamic(&self, resource: &GroupVersionResource) -> Api<DynamicObject> {
        Api::new(self.clone(), resource.clone(), None)
    }

    /// Sends a request and returns the response if its status is a success; the body is still to be read.
    ///
    /// # Errors
    /// The Status of any other answer; see [`ClientError`] for what may have happened to a write.
    pub fn stream(&self, request: Request<Bytes>) -> BoxFuture<'_, ClientResult<Response<Body>>> {
        let deadline = self.deadline(request.method());
        self.open(request, deadline).boxed()
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As [`Client::stream`].
    pub fn bytes(&self, request: Request<Bytes>) -> BoxFuture<'_, ClientResult<Bytes>> {
        let mutating = is_mutating(request.method());
        let deadline = self.deadline(request.method());
        async move {
            let response = self.open(request, deadline).await?;
            collect(response.into_body(), mutating, deadline).await
        }
        .boxed()
    }

    /// Sends a JSON request (with a body of `content_type` if there is one) and decodes the JSON answer.
    ///
    /// # Errors
    /// As [`Client::stream`]; `Decode` if the answer is not a `T`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<(&str, &Value)>,
    ) -> ClientResult<T> {
        let body = body.map(|(content_type, value)| (content_type, value.to_string().into()));
        decode(&self.bytes(self.request(method, path_and_query, body)?).await?)
    }

    /// A request with this client's headers.
    ///
    /// # Errors
    /// `Transport` if the path is not one.
    pub fn request(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<(&str, Bytes)>,
    ) -> ClientResult<Request<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path_and_query)
            .header(header::USER_AGENT, &*self.name)
            .header(header::ACCEPT, "application/json");
        let body = match body {
            None => Bytes::new(),
            Some((content_type, body)) => {
                request = request.header(header::CONTENT_TYPE, content_type);
                body
            }
        };
        request.body(body).map_err(|e| ClientError::Transport(format!("bad request: {e}")))
    }

    fn deadline(&self, method: &Method) -> Instant {
        let longest = self.env.now() + Duration::from_millis(REQUEST_MS_MAX);
        match &self.guard {
            Some(guard) if is_mutating(method) => guard.deadline().map_or(longest, |d| d.min(longest)),
            _ => longest,
        }
    }

    /// Sends, repeating while the server says that it has too much to do (429: certainly not acted on).
    async fn open(&self, request: Request<Bytes>, deadline: Instant) -> ClientResult<Response<Body>> {
        let mutating = is_mutating(request.method());
        let mut throttled = 0;
        loop {
            if let (true, Some(guard)) = (mutating, &self.guard) {
                guard.check()?;
            }
            let sent = timeout_at(deadline, self.transport.send(copy(&request))).await;
            let response = match sent {
                Ok(Ok(response)) => response,
                Ok(Err(TransportError::NotSent(text))) => return Err(ClientError::Transport(text)),
                Ok(Err(TransportError::Unanswered(text))) => return Err(unanswered(mutating, text)),
                Err(_) => return Err(unanswered(mutating, "no answer in time".into())),
            };
            if response.status().is_success() {
                return Ok(response);
            }
            let pause = retry_after(&response).filter(|_| throttled < THROTTLE_RETRIES_MAX);
            let error = status_of(response, mutating, deadline).await;
            match pause.filter(|pause| self.env.now() + *pause < deadline) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
            throttled += 1;
        }
    }
}

pub(crate) fn is_mutating(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// `http::Request` is not `Clone` when extensions are involved; ours carry none.
pub(crate) fn copy(request: &Request<Bytes>) -> Request<Bytes> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn unanswered(mutating: bool, text: String) -> ClientError {
    if mutating {
        ClientError::OutcomeUnknown(text)
    } else {
        ClientError::Transport(text)
    }
}

/// The pause asked for by a 429, whose request certainly was not acted on.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    if response.status() != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)))
}

async fn status_of(response: Response<Body>, mutating: bool, deadline: Instant) -> ClientError {
    let code = response.status().as_u16();
    let body = match collect(response.into_body(), mutating, deadline).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    let parsed = serde_json::from_slice::<Value>(&body).ok().as_ref().and_then(ApiStatus::from_value);
    ClientError::Status(parsed.unwrap_or_else(|| {
        let text: String = String::from_utf8_lossy(&body).chars().take(512).collect();
        ApiStatus::new(code, "", text)
    }))
}

async fn collect(mut body: Body, mutating: bool, deadline: Instant) -> ClientResult<Bytes> {
    let mut collected = BytesMut::new();
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(unanswered(mutating, "the answer did not end in time".into())),
            Ok(None) => return Ok(collected.freeze()),
            Ok(Some(Err(error))) => return Err(unanswered(mutating, format!("the answer broke off: {error}"))),
            Ok(Some(Ok(frame))) => collected.extend_from_slice(&frame.into_data().unwrap_or_default()),
        }
        if collected.len() > RESPONSE_BYTES_MAX {
            return Err(ClientError::Decode("the answer is too large".into()));
        }
    }
}

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> ClientResult<T> {
    serde_json::from_slice(body).map_err(|e| ClientError::Decode(e.to_string()))
}
