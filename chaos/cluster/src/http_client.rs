//! A plain client of the API: one connection, no retries, and an honest answer about what became of a request.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use keelstone_env::{ClientTls, Env, TlsConnector};
use serde_json::Value;
use tokio::time::timeout;

use crate::constants::{ANSWER_BYTES_MAX, CONNECT_MAX};
use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_chaos_store::dial;

/// Where the API is served, and as whom to come.
#[derive(Clone, Debug)]
pub struct Access {
    /// `host:port`.
    pub address: String,
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

/// What became of a request.
#[derive(Debug)]
pub enum Sent {
    Answer {
        code: u16,
        body: Value,
    },
    /// It never left: certainly without effect.
    Unsent(String),
    /// It was sent, and no answer came.
    Unanswered(String),
}

impl Sent {
    /// The body of a success; else what went wrong.
    pub fn success(self) -> Result<Value, String> {
        match self {
            Self::Answer { code: 200..=299, body } => Ok(body),
            Self::Answer { code, body } => Err(format!("{code} {}", body["message"].as_str().unwrap_or_default())),
            Self::Unsent(text) | Self::Unanswered(text) => Err(text),
        }
    }
}

/// One address of the API with credentials.
#[derive(Clone)]
pub struct Endpoint {
    env: Env,
    tls: Arc<dyn TlsConnector>,
    pub address: String,
    /// Where its connections come from, if not from wherever the kernel likes.
    source: Option<Ipv4Addr>,
}

impl Endpoint {
    pub fn new(access: &Access) -> Outcome<Self> {
        let env = Env::os();
        let tls = ClientTls {
            ca: access.ca.clone(),
            identity: Some((access.certificate.clone(), access.key.clone())),
            alpn: vec!["http/1.1".into()],
        };
        let tls = env.tls().client(&tls).map_err(|e| Failure::impossible(format!("the kubeconfig: {e}")))?;
        Ok(Self { env, tls, address: access.address.clone(), source: None })
    }

    /// The same for a client with an address of its own.
    #[must_use]
    pub fn from(&self, source: Ipv4Addr) -> Self {
        Self { source: Some(source), ..self.clone() }
    }

    async fn dial(&self) -> Result<http1::SendRequest<Full<Bytes>>, String> {
        let connect = async {
            let (host, port) = self.address.rsplit_once(':').ok_or("not host:port")?;
            let port = port.parse().map_err(|_| "not host:port".to_owned())?;
            let io = match self.source {
                Some(source) => dial(&self.address, source, Some(self.tls.clone())).await.map_err(|e| e.to_string())?,
                None => {
                    let io = self.env.net().connect(host, port).await.map_err(|e| e.to_string())?;
                    self.tls.connect(io, host).await.map_err(|e| e.to_string())?.io
                }
            };
            let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            Ok::<_, String>(sender)
        };
        let dialled = timeout(CONNECT_MAX, connect).await.unwrap_or_else(|_| Err("no connection in time".into()));
        dialled.map_err(|e| format!("{}: {e}", self.address))
    }

    /// A watch, or another endless answer, line by line.
    pub async fn lines(&self, path: &str, limit: Duration) -> Result<Lines, String> {
        let mut sender = self.dial().await?;
        let request = self.request(&Method::GET, path, None);
        let response = timeout(limit, sender.send_request(request)).await.map_err(|_| "no answer in time")?;
        let response = response.map_err(|e| e.to_string())?;
        let code = response.status().as_u16();
        Ok(Lines { code, body: response.into_body(), kept: Vec::new(), _sender: sender })
    }

    fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> Request<Full<Bytes>> {
        let content_type = if *method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("accept", "application/json")
            .header("user-agent", "keelstone-chaos")
            .header("content-type", content_type);
        let body = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        request.body(Full::new(body)).unwrap_or_default()
    }
}

/// A kept connection to an endpoint, dialled again when it breaks.
pub struct Connection {
    pub endpoint: Endpoint,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub fn new(endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.clone(), sender: None }
    }

    pub fn leads_to(&self, endpoint: Option<&Endpoint>) -> bool {
        endpoint.is_some_and(|e| e.address == self.endpoint.address)
    }

    pub async fn get(&mut self, path: &str, limit: Duration) -> Sent {
        self.send(Method::GET, path, None, limit).await
    }

    /// Sends one request once.
    pub async fn send(&mut self, method: Method, path: &str, body: Option<&Value>, limit: Duration) -> Sent {
        if !self.ready().await {
            match self.endpoint.dial().await {
                Ok(sender) => self.sender = Some(sender),
                Err(text) => return Sent::Unsent(text),
            }
        }
        let Some(mut sender) = self.sender.take() else { return Sent::Unsent("no connection".into()) };
        let request = self.endpoint.request(&method, path, body);
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
            let code = response.status().as_u16();
            let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let bytes = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
            let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
            Ok::<_, String>((code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text())))
        };
        match timeout(limit, exchange).await {
            Err(_) => Sent::Unanswered(format!("no answer within {limit:?}")),
            Ok(Err(text)) => Sent::Unanswered(text),
            Ok(Ok((code, body))) => {
                self.sender = Some(sender);
                Sent::Answer { code, body }
            }
        }
    }

    async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        }
    }
}

pub struct Lines {
    pub code: u16,
    body: Incoming,
    kept: Vec<u8>,
    _sender: http1::SendRequest<Full<Bytes>>,
}

impl Lines {
    /// The next line as JSON; `None` when the answer has ended or broken off.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.kept.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.kept.drain(..=end).collect();
                if line.len() > 1 {
                    return serde_json::from_slice(&line).ok();
                }
                continue;
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.kept.extend_from_slice(&data);
            }
            if self.kept.len() > ANSWER_BYTES_MAX {
                return None;
            }
        }
    }
}
