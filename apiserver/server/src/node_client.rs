//! Requests to node agents.

use bytes::Bytes;
use http::{header, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use keelstone_machinery::{
    meta,
    status::{ApiResult, ApiStatus},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    body::Body,
    constants::{NODE_CONNECT_TIMEOUT, NODE_PORT_DEFAULT},
    state::State,
};

/// The kinds of a node's addresses, the most wanted first.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "Hostname", "ExternalIP"];

/// Sends a GET to a node's agent.
///
/// # Errors
/// 500 with the reason if the agent cannot be reached.
pub async fn get(state: &State, node: &Value, path: &str) -> ApiResult<Response<Body>> {
    let (host, port) = address_of(node)?;
    let name = meta::name(node);
    let failed = |why: String| {
        ApiStatus::internal(format!("error dialing backend: node {name:?} at {host}:{port} cannot be reached: {why}"))
    };
    let Some(tls) = &state.node_tls else {
        return Err(failed("this API server has no client certificate for node agents".into()));
    };
    let connect = async {
        let io = state.env.net().connect(&host, port).await?;
        tls.connect(io, &host).await
    };
    let stream = match timeout(NODE_CONNECT_TIMEOUT, connect).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("no answer".into())),
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream.io)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
    state.env.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a node's agent ended");
        }
    });
    let request = Request::get(path)
        .header(header::HOST, format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// Where the node's agent listens.
fn address_of(node: &Value) -> ApiResult<(String, u16)> {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let of_type = |wanted: &str| addresses.iter().find(|a| a["type"] == wanted).and_then(|a| a["address"].as_str());
    let Some(host) = ADDRESS_TYPES.iter().find_map(|t| of_type(t)) else {
        return Err(ApiStatus::internal(format!("no preferred addresses found on node {:?}", meta::name(node))));
    };
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(NODE_PORT_DEFAULT);
    Ok((host.to_owned(), port))
}
