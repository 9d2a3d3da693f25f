use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use keelstone_etcd_api::{
    mvccpb::{event::EventType, Event},
    pb::{self, request_op::Request},
    v3electionpb::{self, LeaderKey, LeaderResponse},
    ApiError,
};
use keelstone_mvcc::{WatchBatch, WatchSpec, Watcher};
use keelstone_raft::RaftError;

use super::queue::{created_at, delete, op};
use crate::{auth::Credentials, member::Member, watch::WatchAccess};

impl Member {
    /// Waits for the leadership; `value` is what the leader says of itself.
    pub async fn campaign(
        self: &Arc<Self>,
        request: v3electionpb::CampaignRequest,
        credentials: &Credentials,
    ) -> Result<v3electionpb::CampaignResponse, RaftError> {
        let v3electionpb::CampaignRequest { name, lease, value } = request;
        let place = self.enter(&name, lease, &value, credentials).await?;
        let leader = LeaderKey { name, key: place.key.clone(), rev: place.revision, lease: place.lease };
        if place.found.as_ref().is_some_and(|found| *found != value) {
            self.say(&leader, value, credentials).await?;
        }
        self.wait_for_turn(&leader.name, &place, credentials).await?;
        Ok(v3electionpb::CampaignResponse { header: place.header, leader: Some(leader) })
    }

    /// Replaces what the leader says of itself.
    pub async fn proclaim(
        &self,
        request: v3electionpb::ProclaimRequest,
        credentials: &Credentials,
    ) -> Result<v3electionpb::ProclaimResponse, RaftError> {
        let leader = request.leader.ok_or(ApiError::ElectionLeaderMissing)?;
        let header = self.say(&leader, request.value, credentials).await?;
        Ok(v3electionpb::ProclaimResponse { header })
    }

    async fn say(
        &self,
        leader: &LeaderKey,
        value: Bytes,
        credentials: &Credentials,
    ) -> Result<Option<pb::ResponseHeader>, RaftError> {
        let put = pb::PutRequest { key: leader.key.clone(), value, lease: leader.lease, ..Default::default() };
        let txn = pb::TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: op(Request::RequestPut(put)),
            failure: Vec::new(),
        };
        let response = self.txn(txn, credentials).await?;
        match response.succeeded {
            true => Ok(response.header),
            false => Err(ApiError::ElectionNotLeader.into()),
        }
    }

    /// Gives the leadership up. Who has it no more changes nothing.
    pub async fn resign(
        &self,
        request: v3electionpb::ResignRequest,
        credentials: &Credentials,
    ) -> Result<v3electionpb::ResignResponse, RaftError> {
        let leader = request.leader.ok_or(ApiError::ElectionLeaderMissing)?;
        let txn = pb::TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: op(Request::RequestDeleteRange(delete(&leader.key))),
            failure: Vec::new(),
        };
        Ok(v3electionpb::ResignResponse { header: self.txn(txn, credentials).await?.header })
    }

    pub async fn election_leader(
        &self,
        request: v3electionpb::LeaderRequest,
        credentials: &Credentials,
    ) -> Result<LeaderResponse, RaftError> {
        let response = self.range(self.first_of(&request.name), credentials).await?;
        let kv = response.kvs.into_iter().next().ok_or(ApiError::ElectionNoLeader)?;
        Ok(LeaderResponse { header: response.header, kv: Some(kv) })
    }

    /// What each leader says of itself, from the present one on; the last word of each is never left out.
    pub fn observe_election(
        self: Arc<Self>,
        request: v3electionpb::LeaderRequest,
        credentials: Credentials,
    ) -> impl Stream<Item = Result<LeaderResponse, RaftError>> + Send {
        async_stream::try_stream! {
            loop {
                let range = self.first_of(&request.name);
                let found = self.range(range.clone(), &credentials).await?;
                let mut at = found.header.as_ref().map_or(0, |header| header.revision);
                let kv = match found.kvs.into_iter().next() {
                    Some(kv) => kv,
                    None => {
                        let mut arrivals = self.follow(range.key, range.range_end, at + 1, &credentials)?;
                        let first = arrivals.next_put().await?;
                        at = first.mod_revision;
                        first
                    }
                };
                let mut own = self.follow(kv.key.clone(), Bytes::new(), at + 1, &credentials)?;
                yield LeaderResponse { header: Some(self.header(at)), kv: Some(kv) };
                'leader: loop {
                    for event in own.next().await? {
                        let Some(kv) = event.kv.clone() else { continue };
                        if event.r#type() == EventType::Delete {
                            break 'leader;
                        }
                        yield LeaderResponse { header: Some(self.header(kv.mod_revision)), kv: Some(kv) };
                    }
                }
            }
        }
    }

    fn follow(
        self: &Arc<Self>,
        key: Bytes,
        range_end: Bytes,
        start_revision: i64,
        credentials: &Credentials,
    ) -> Result<Following, RaftError> {
        let caller = self.caller(credentials)?;
        let access = WatchAccess::new(self, caller, key.clone(), range_end.clone())?;
        let spec = WatchSpec { key, range_end, start_revision, ..WatchSpec::default() };
        Ok(Following { member: Arc::clone(self), watcher: self.mvcc.watch(spec), access })
    }
}

/// A watch for who may read it.
struct Following {
    member: Arc<Member>,
    watcher: Watcher,
    access: WatchAccess,
}

impl Following {
    async fn next(&mut self) -> Result<Vec<Event>, RaftError> {
        let stopping = self.member.stopping.clone();
        loop {
            let batch = tokio::select! {
                biased;
                () = stopping.cancelled() => return Err(ApiError::Stopped.into()),
                batch = self.watcher.next() => batch,
            };
            match batch {
                Ok(Some(WatchBatch::Events { events, .. })) => {
                    self.access.check()?;
                    return Ok(events);
                }
                Ok(Some(WatchBatch::Progress { .. })) => {}
                Ok(Some(WatchBatch::Compacted { .. }) | None) => return Err(ApiError::Compacted.into()),
                Err(error) => return Err(RaftError::Fatal(error.to_string())),
            }
        }
    }

    async fn next_put(&mut self) -> Result<keelstone_etcd_api::mvccpb::KeyValue, RaftError> {
        loop {
            let put = self.next().await?.into_iter().find(|event| event.r#type() == EventType::Put);
            if let Some(kv) = put.and_then(|event| event.kv) {
                return Ok(kv);
            }
        }
    }
}
