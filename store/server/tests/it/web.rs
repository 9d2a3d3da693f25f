//! Plain HTTP/1.1 requests.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use keelstone_env::{BoxedIo, ClientTls, Env};

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Answer {
    /// The body's lines as JSON.
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
    }
}

/// One request. A streamed answer is read until it ends, or until it has `lines_max` lines, or falls silent.
pub async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
    lines_max: usize,
) -> Answer {
    let io = connect(address).await;
    request_over(io, address, method, path, headers, body, lines_max).await
}

async fn connect(address: &str) -> BoxedIo {
    let (host, port) = address.rsplit_once(':').unwrap();
    Env::os().net().connect(host, port.parse().unwrap()).await.unwrap()
}

/// A POST over TLS.
pub async fn post_over_tls(address: &str, tls: &ClientTls, path: &str, body: &str) -> Answer {
    let tls = ClientTls { alpn: vec!["http/1.1".into()], ..tls.clone() };
    let connector = Env::os().tls().client(&tls).unwrap();
    let io = connector.connect(connect(address).await, "127.0.0.1").await.unwrap().io;
    request_over(io, address, "POST", path, &[], body, usize::MAX).await
}

async fn request_over(
    io: BoxedIo,
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
    lines_max: usize,
) -> Answer {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    let driver = Env::os().spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path).header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let response = tokio::time::timeout(Duration::from_secs(20), sender.send_request(request)).await.unwrap().unwrap();
    let (parts, mut body) = response.into_parts();
    let mut read = Vec::new();
    while read.iter().filter(|byte| **byte == b'\n').count() < lines_max {
        match tokio::time::timeout(Duration::from_secs(2), body.frame()).await {
            Ok(Some(Ok(frame))) => read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            _ => break,
        }
    }
    drop(body);
    drop(sender);
    driver.abort();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8(read).unwrap() }
}

pub async fn get(address: &str, path: &str) -> Answer {
    request(address, "GET", path, &[], "", usize::MAX).await
}

pub async fn post(address: &str, path: &str, body: &str) -> Answer {
    request(address, "POST", path, &[], body, usize::MAX).await
}
