use std::{
    io,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        Arc, Weak,
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{header, HeaderValue, Request, Response, StatusCode, Uri};
use keelstone_env::{ClientTls, Env};
use tokio::time::Instant;

use super::{master::Master, Body, Transport, TransportError};
use crate::{
    client::{copy, is_mutating},
    constants::{
        CONNECT_MS_MAX, FROZEN_SUSPECT_MS, PROBE_FAILURES_MIN, PROBE_INTERVAL_MS, PROBE_TIMEOUT_MS,
        READ_ATTEMPT_MS_MAX, ROUNDS_MAX, ROUND_PAUSE_MS,
    },
};

/// What a request shows beside the client certificate (which is part of [`ClientTls`]).
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    #[default]
    None,
    /// A bearer token.
    Token(String),
}

/// Where and how to reach the masters.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// The masters as `host:port`, the preferred one first.
    pub addresses: Vec<String>,
    /// `None`: plain text.
    pub tls: Option<ClientTls>,
    pub credentials: Credentials,
    /// Speak HTTP/2 without negotiation over plain text. Over TLS, ALPN decides.
    pub http2_plain: bool,
    pub connect_timeout: Duration,
    /// Without HTTP/2's pings: how long a read waits for one master before it asks the next.
    pub read_attempt_timeout: Duration,
}

impl TcpOptions {
    pub fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            tls: None,
            credentials: Credentials::None,
            http2_plain: false,
            connect_timeout: Duration::from_millis(CONNECT_MS_MAX),
            read_attempt_timeout: Duration::from_millis(READ_ATTEMPT_MS_MAX),
        }
    }

    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials = Credentials::Token(token.into());
        self
    }
}

/// Requests over TCP to one of several masters.
///
/// It stays with one master until that one refuses connections, freezes, breaks a connection, or answers a read
/// with 503 or 504 while another answers it. A request is repeated elsewhere only if it certainly was not sent,
/// or changes nothing.
pub struct TcpTransport {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    masters: Vec<Arc<Master>>,
    current: AtomicUsize,
    authorization: Option<HeaderValue>,
    read_attempt_timeout: Duration,
    probing: AtomicBool,
}

impl TcpTransport {
    /// # Errors
    /// If there are no addresses, an address is not `host:port`, or TLS material or token cannot be used.
    pub fn new(env: &Env, options: TcpOptions) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        if options.addresses.is_empty() {
            return Err(invalid("no API server address".into()));
        }
        let tls = match options.tls {
            None => None,
            Some(mut tls) => {
                if tls.alpn.is_empty() {
                    tls.alpn = vec!["h2".into(), "http/1.1".into()];
                }
                Some(env.tls().client(&tls)?)
            }
        };
        let authorization = match options.credentials {
            Credentials::None => None,
            Credentials::Token(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                    .map_err(|_| invalid("the token has bytes that no header can carry".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let masters = options.addresses.iter().map(|address| {
            Master::new(env, address, tls.clone(), options.http2_plain, options.connect_timeout)
                .map(Arc::new)
                .ok_or_else(|| invalid(format!("not an address of the form host:port: {address:?}")))
        });
        let shared = Shared {
            env: env.clone(),
            masters: masters.collect::<io::Result<_>>()?,
            current: AtomicUsize::new(0),
            authorization,
            read_attempt_timeout: options.read_attempt_timeout,
            probing: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The address that requests go to at present.
    pub fn current_address(&self) -> &str {
        &self.shared.masters[self.shared.current.load(Ordering::Relaxed)].address
    }

    /// Starts to probe, once, if there is a choice of masters.
    fn probe(&self) {
        let shared = &self.shared;
        if shared.masters.len() > 1 && !shared.probing.swap(true, Ordering::Relaxed) {
            shared.env.spawn(probe_all(Arc::downgrade(shared), shared.env.clone()));
        }
    }
}

/// Watches over the current master for as long as the transport lives. A master can lose the quorum and still
/// answer watches, with silence: when its /readyz fails repeatedly and another's does not, all connections to it
/// are closed, so that watches begin anew at the other.
async fn probe_all(shared: Weak<Shared>, env: Env) {
    let mut failures = 0;
    loop {
        let pause_ms = PROBE_INTERVAL_MS + env.random().below(PROBE_INTERVAL_MS / 4);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let Some(shared) = shared.upgrade() else { return };
        let current = shared.current.load(Ordering::Relaxed);
        if shared.is_ready(current).await {
            failures = 0;
            continue;
        }
        failures += 1;
        if failures < PROBE_FAILURES_MIN {
            continue;
        }
        for step in 1..shared.masters.len() {
            let other = (current + step) % shared.masters.len();
            if shared.is_ready(other).await {
                tracing::info!(from = %shared.masters[current].address, to = %shared.masters[other].address,
                    "the API server is not ready; changing to another");
                shared.current.store(other, Ordering::Relaxed);
                shared.masters[current].disconnect();
                failures = 0;
                break;
            }
        }
    }
}

impl Shared {
    async fn is_ready(&self, index: usize) -> bool {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = Uri::from_static("/readyz");
        self.authorize(&mut request);
        let probe = self.masters[index].send(request);
        let answer = tokio::time::timeout(Duration::from_millis(PROBE_TIMEOUT_MS), probe).await;
        // A 404 or 403 comes from a server that is at least alive and well enough to say so.
        matches!(answer, Ok(Ok(response)) if !response.status().is_server_error())
    }

    fn authorize(&self, request: &mut Request<Bytes>) {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
    }

    /// Goes on to the master after `index`, unless somebody else already did.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.masters.len();
        let moved = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if moved && next != index {
            tracing::info!(from = %self.masters[index].address, to = %self.masters[next].address, "changing the API server");
        }
    }

    /// One attempt at one master. A read is given up after `read_attempt_timeout`.
    async fn attempt(&self, index: usize, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let safe = !is_mutating(request.method());
        let mut watchdog = Watchdog { shared: self, index, since: self.env.now(), answered: false };
        let sending = self.masters[index].send(request);
        let result = if safe && self.masters.len() > 1 {
            match tokio::time::timeout(self.read_attempt_timeout, sending).await {
                Ok(result) => result,
                Err(_) => Err(TransportError::Unanswered(format!("{} is silent", self.masters[index].address))),
            }
        } else {
            sending.await
        };
        watchdog.answered = true;
        result
    }
}

/// Leaves a master whose answer the caller gave up waiting for.
struct Watchdog<'a> {
    shared: &'a Shared,
    index: usize,
    since: Instant,
    answered: bool,
}

impl Drop for Watchdog<'_> {
    fn drop(&mut self) {
        if !self.answered && self.since.elapsed() >= Duration::from_millis(FROZEN_SUSPECT_MS) {
            self.shared.leave(self.index);
        }
    }
}

#[async_trait]
impl Transport for TcpTransport {
    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        self.probe();
        let shared = &self.shared;
        shared.authorize(&mut request);
        let safe = !is_mutating(request.method());
        let mut last = Err(TransportError::NotSent("no API server".into()));
        for round in 0..ROUNDS_MAX {
            let first = shared.current.load(Ordering::Relaxed);
            for step in 0..shared.masters.len() {
                let index = (first + step) % shared.masters.len();
                match shared.attempt(index, copy(&request)).await {
                    // A master that has lost the quorum; another may have it.
                    Ok(response) if safe && is_unable(response.status()) => last = Ok(response),
                    Ok(response) => {
                        shared.current.store(index, Ordering::Relaxed);
                        return Ok(response);
                    }
                    Err(error @ TransportError::Unanswered(_)) if !safe => {
                        shared.leave(index);
                        return Err(error);
                    }
                    Err(error) => {
                        shared.leave(index);
                        // An answer, even "unable", says more than no answer.
                        if last.is_err() {
                            last = Err(error);
                        }
                    }
                }
            }
            if last.is_ok() {
                break;
            }
            if round + 1 < ROUNDS_MAX {
                tokio::time::sleep(Duration::from_millis(ROUND_PAUSE_MS + shared.env.random().below(ROUND_PAUSE_MS)))
                    .await;
            }
        }
        last
    }
}

fn is_unable(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}
