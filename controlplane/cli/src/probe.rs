//! One HTTPS request over [`Env`], for readiness checks that must not depend on anything else.

use std::{io, time::Duration};

use keelstone_env::{Env, TlsConnector};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Splits `host:port`.
pub fn split(address: &str) -> io::Result<(&str, u16)> {
    let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is not host:port")))
}

/// GETs `path` and returns the status code and the body. Ends within `limit`.
pub async fn get(
    env: &Env,
    tls: &dyn TlsConnector,
    address: &str,
    path: &str,
    limit: Duration,
) -> io::Result<(u16, String)> {
    let exchange = async {
        let (host, port) = split(address)?;
        let io = env.net().connect(host, port).await?;
        let mut io = tls.connect(io, host).await?.io;
        // HTTP/1.0: the body ends with the connection and is never chunked.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
        io.write_all(request.as_bytes()).await?;
        io.flush().await?;
        let mut answer = Vec::new();
        match io.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await {
            Ok(_) => {}
            // A server may end the connection without TLS's farewell.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
        parse(&answer)
    };
    timeout(limit, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn parse(answer: &[u8]) -> io::Result<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let code = head.split(' ').nth(1).and_then(|c| c.parse().ok());
    let code = code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))?;
    Ok((code, body.to_owned()))
}
