//! A plain client of one member: one connection, no retries, and an honest answer about what became of a request.

use std::{future::Future, io, net::Ipv4Addr, sync::Arc, time::Duration};

use futures::StreamExt;
use hyper_util::rt::TokioIo;
use keelstone_env::{BoxedIo, TlsConnector};
use keelstone_etcd_api::pb::{
    self, cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::{net::TcpSocket, time::timeout};
use tonic::{
    transport::{Channel, Endpoint},
    Code, Response, Status, Streaming,
};

use crate::{
    constants::{CALL_TIME_MAX, CONNECT_TIME_MAX},
    record::Class,
};

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<T> {
    Ok(T),
    /// Certainly without effect.
    Failed(String),
    /// Perhaps carried out, perhaps later.
    Unknown(String),
}

impl<T> Reply<T> {
    pub fn class(&self) -> Class {
        match self {
            Self::Ok(_) => Class::Ok,
            Self::Failed(_) => Class::Failed,
            Self::Unknown(_) => Class::Unknown,
        }
    }

    pub fn ok(self) -> Option<T> {
        match self {
            Self::Ok(answer) => Some(answer),
            _ => None,
        }
    }

    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Ok(_) => None,
            Self::Failed(error) | Self::Unknown(error) => Some(error),
        }
    }

    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Reply<U> {
        match self {
            Self::Ok(answer) => Reply::Ok(f(answer)),
            Self::Failed(error) => Reply::Failed(error),
            Self::Unknown(error) => Reply::Unknown(error),
        }
    }

    /// For a request that changes nothing: without an answer it failed.
    pub fn of_read(self) -> Self {
        match self {
            Self::Unknown(error) => Self::Failed(error),
            other => other,
        }
    }
}

/// Whether a member that answers so has certainly not carried out the request, and never will. Codes that the contract
/// gives to requests that are refused before they are proposed, or at apply; time-outs and lost leaders tell nothing.
fn refused(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}

pub struct EtcdClient {
    /// `host:port`.
    pub address: String,
    /// The address that it comes from.
    pub source: Ipv4Addr,
    pub call_time_max: Duration,
    tls: Option<Arc<dyn TlsConnector>>,
    channel: Option<Channel>,
}

impl std::fmt::Debug for EtcdClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "client of {} from {}", self.address, self.source)
    }
}

/// A connection from `source` to `address` (`ip:port`), with TLS if there is any.
///
/// # Errors
/// No connection, or no agreement on TLS.
pub async fn dial(address: &str, source: Ipv4Addr, tls: Option<Arc<dyn TlsConnector>>) -> io::Result<BoxedIo> {
    let to: std::net::SocketAddr = address.parse().map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => Ok(tls.connect(Box::new(stream), &to.ip().to_string()).await?.io),
    }
}

impl EtcdClient {
    pub fn new(address: &str, source: Ipv4Addr, tls: Option<Arc<dyn TlsConnector>>) -> Self {
        Self { address: address.to_owned(), source, call_time_max: CALL_TIME_MAX, tls, channel: None }
    }

    async fn channel(&mut self) -> Result<Channel, String> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).map_err(|e| e.to_string())?;
        let (address, source, tls) = (self.address.clone(), self.source, self.tls.clone());
        let connector = tower::service_fn(move |_| {
            let (address, tls) = (address.clone(), tls.clone());
            async move { dial(&address, source, tls).await.map(TokioIo::new) }
        });
        let dialled = timeout(CONNECT_TIME_MAX, endpoint.connect_with_connector(connector)).await;
        let channel = dialled.map_err(|_| "no connection in time".to_owned())?.map_err(|e| format!("dial: {e}"))?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// One call. After anything but a clear answer the connection is given up: the channel would dial again by itself,
    /// and then nobody knows what was sent.
    async fn call<T, F>(&mut self, send: impl FnOnce(Channel) -> F) -> Reply<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(error) => return Reply::Failed(error),
        };
        match timeout(self.call_time_max, send(channel)).await {
            Ok(Ok(response)) => Reply::Ok(response.into_inner()),
            Ok(Err(status)) => {
                let said = format!("{:?}: {}", status.code(), status.message());
                if refused(&status) {
                    return Reply::Failed(said);
                }
                self.channel = None;
                Reply::Unknown(said)
            }
            Err(_) => {
                self.channel = None;
                Reply::Unknown(format!("no answer within {:?}", self.call_time_max))
            }
        }
    }

    pub async fn range(&mut self, request: pb::RangeRequest) -> Reply<pb::RangeResponse> {
        self.call(|c| async { KvClient::new(c).max_decoding_message_size(64 << 20).range(request).await })
            .await
            .of_read()
    }

    pub async fn put(&mut self, request: pb::PutRequest) -> Reply<pb::PutResponse> {
        self.call(|c| async { KvClient::new(c).put(request).await }).await
    }

    pub async fn delete(&mut self, request: pb::DeleteRangeRequest) -> Reply<pb::DeleteRangeResponse> {
        self.call(|c| async { KvClient::new(c).delete_range(request).await }).await
    }

    pub async fn txn(&mut self, request: pb::TxnRequest) -> Reply<pb::TxnResponse> {
        self.call(|c| async { KvClient::new(c).txn(request).await }).await
    }

    pub async fn grant(&mut self, ttl: i64) -> Reply<pb::LeaseGrantResponse> {
        self.call(|c| async move { LeaseClient::new(c).lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await }).await
    }

    pub async fn revoke(&mut self, id: i64) -> Reply<pb::LeaseRevokeResponse> {
        self.call(|c| async move { LeaseClient::new(c).lease_revoke(pb::LeaseRevokeRequest { id }).await }).await
    }

    /// One keep-alive; the time to live that it was answered with, 0 if the lease is gone.
    pub async fn keep_alive(&mut self, id: i64) -> Reply<i64> {
        self.call(|c| async move {
            let requests = futures::stream::iter([pb::LeaseKeepAliveRequest { id }]).chain(futures::stream::pending());
            let mut answers = LeaseClient::new(c).lease_keep_alive(requests).await?.into_inner();
            let answer = answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
            Ok(Response::new(answer.ttl))
        })
        .await
    }

    pub async fn status(&mut self) -> Reply<pb::StatusResponse> {
        self.call(|c| async { MaintenanceClient::new(c).status(pb::StatusRequest {}).await }).await.of_read()
    }

    pub async fn hash_kv(&mut self, revision: i64) -> Reply<pb::HashKvResponse> {
        self.call(|c| async move { MaintenanceClient::new(c).hash_kv(pb::HashKvRequest { revision }).await })
            .await
            .of_read()
    }

    pub async fn move_leader(&mut self, target_id: u64) -> Reply<pb::MoveLeaderResponse> {
        let request = pb::MoveLeaderRequest { target_id };
        self.call(|c| async move { MaintenanceClient::new(c).move_leader(request).await }).await
    }

    pub async fn member_list(&mut self) -> Reply<pb::MemberListResponse> {
        let request = pb::MemberListRequest { linearizable: false };
        self.call(|c| async move { ClusterClient::new(c).member_list(request).await }).await.of_read()
    }

    pub async fn member_add(&mut self, peer_url: String) -> Reply<pb::MemberAddResponse> {
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url], is_learner: false };
        self.call(|c| async move { ClusterClient::new(c).member_add(request).await }).await
    }

    pub async fn member_remove(&mut self, id: u64) -> Reply<pb::MemberRemoveResponse> {
        self.call(|c| async move { ClusterClient::new(c).member_remove(pb::MemberRemoveRequest { id }).await }).await
    }

    /// A watch; its answers until the stream ends.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn watch(&mut self, create: pb::WatchCreateRequest) -> Result<Streaming<pb::WatchResponse>, String> {
        let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let requests = futures::stream::iter([first]).chain(futures::stream::pending());
        let opened = self
            .call(|c| async { WatchClient::new(c).max_decoding_message_size(64 << 20).watch(requests).await })
            .await;
        match opened {
            Reply::Ok(stream) => Ok(stream),
            Reply::Failed(error) | Reply::Unknown(error) => Err(error),
        }
    }
}

/// All keys that start with `prefix`: the end of the range.
pub fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A range of all keys that start with `prefix`.
pub fn prefix(prefix: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: prefix.to_owned().into(), range_end: range_end(prefix).into(), ..Default::default() }
}

pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

pub fn put(key: &str, value: impl Into<String>) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.into().into(), ..Default::default() }
}

/// The key was last changed at `revision`; 0: it is absent.
pub fn unchanged(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

pub mod op {
    //! Operations of a transaction.
    use keelstone_etcd_api::pb::{self, request_op::Request, response_op::Response};

    pub fn range(request: pb::RangeRequest) -> pb::RequestOp {
        pb::RequestOp { request: Some(Request::RequestRange(request)) }
    }

    pub fn put(request: pb::PutRequest) -> pb::RequestOp {
        pb::RequestOp { request: Some(Request::RequestPut(request)) }
    }

    /// The ranges among a transaction's answers, in order.
    pub fn ranges(answer: &pb::TxnResponse) -> Vec<&pb::RangeResponse> {
        let of = |r: &'_ pb::ResponseOp| matches!(r.response, Some(Response::ResponseRange(_)));
        answer
            .responses
            .iter()
            .filter(|r| of(r))
            .filter_map(|r| match &r.response {
                Some(Response::ResponseRange(range)) => Some(range),
                _ => None,
            })
            .collect()
    }
}

/// The revision of an answer.
pub fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |h| h.revision)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_leader_tells_nothing_and_a_bad_request_was_not_carried_out() {
        assert!(refused(&Status::invalid_argument("etcdserver: key is not provided")));
        assert!(refused(&Status::out_of_range("etcdserver: mvcc: required revision has been compacted")));
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Unknown, Code::Internal, Code::Cancelled] {
            assert!(!refused(&Status::new(code, "etcdserver: request timed out")));
        }
    }

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(range_end("a/"), b"a0");
        assert_eq!(range_end(""), [0]);
    }
}
