use std::{sync::Arc, time::Duration};

use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{Op, Response};
use keelstone_raft::{RaftError, RaftStatus};

use super::kv::unexpected;
use crate::{
    auth::Credentials,
    constants::{ETCD_VERSION, LEADER_TRANSFER_TIME_MAX, STORAGE_VERSION},
    member::Member,
};

impl Member {
    /// What this member knows by itself; never waits for the others.
    pub fn status_response(&self) -> pb::StatusResponse {
        let status = self.status();
        let (total, in_use) = self.mvcc.size_bytes();
        let mut errors: Vec<String> = self.mvcc.alarms().iter().map(alarm_text).collect();
        if status.leader.is_none() {
            errors.push(ApiError::NoLeader.text().to_owned());
        }
        errors.extend(status.failed.clone());
        pb::StatusResponse {
            header: Some(self.header(self.mvcc.revision())),
            version: ETCD_VERSION.to_owned(),
            db_size: saturating(total),
            leader: status.leader.unwrap_or(0),
            raft_index: status.committed,
            raft_term: status.term,
            raft_applied_index: status.applied,
            errors,
            db_size_in_use: saturating(in_use),
            is_learner: status.is_learner,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: saturating(self.limits.quota_bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }
    }

    pub async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, RaftError> {
        if request.linearizable {
            self.read_index().await?;
        }
        let members = self.members(&self.status());
        Ok(pb::MemberListResponse { header: Some(self.header(self.mvcc.revision())), members })
    }

    /// The members with the client URLs that they said themselves.
    pub fn members(&self, status: &RaftStatus) -> Vec<pb::Member> {
        let said = self.client_urls.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let member = |(id, info): (&u64, &keelstone_raft::MemberInfo)| pb::Member {
            id: *id,
            name: info.name.clone(),
            peer_ur_ls: info.peer_urls.clone(),
            client_ur_ls: said.get(id).cloned().unwrap_or_else(|| info.client_urls.clone()),
            is_learner: !status.voters.contains(id),
        };
        status.members.iter().map(member).collect()
    }

    pub async fn alarm(
        &self,
        request: pb::AlarmRequest,
        credentials: &Credentials,
    ) -> Result<pb::AlarmResponse, RaftError> {
        let _place = self.admit(0)?;
        if request.action == pb::alarm_request::AlarmAction::Get as i32 {
            self.read_index().await?;
            self.mvcc.auth().check_known(self.caller(credentials)?.as_ref())?;
            let wanted = |alarm: &pb::AlarmMember| {
                let of_kind = request.alarm == pb::AlarmType::None as i32 || request.alarm == alarm.alarm;
                of_kind && (request.member_id == 0 || request.member_id == alarm.member_id)
            };
            let alarms = self.mvcc.alarms().into_iter().filter(wanted).collect();
            return Ok(pb::AlarmResponse { header: Some(self.header(self.mvcc.revision())), alarms });
        }
        match self.propose_for(Op::Alarm(request), credentials).await? {
            Response::Alarm(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Begins to give back the space of what was compacted, beside traffic, and answers at once. A call while that
    /// is going on begins nothing.
    pub async fn defragment(self: &Arc<Self>) -> Result<pb::DefragmentResponse, RaftError> {
        let _place = self.admit(0)?;
        if let Ok(alone) = Arc::clone(&self.reclaiming).try_lock_owned() {
            let member = Arc::clone(self);
            self.env.spawn(async move {
                if let Err(error) = member.reclaim().await {
                    tracing::error!(%error, "space could not be given back");
                }
                drop(alone);
            });
        }
        Ok(pb::DefragmentResponse { header: Some(self.header(self.mvcc.revision())) })
    }

    async fn reclaim(&self) -> Result<(), RaftError> {
        self.compact_physically().await?;
        let mvcc = Arc::clone(&self.mvcc);
        let reclaimed = self.env.offload(move || mvcc.flush().and_then(|_| mvcc.reclaim())).await;
        reclaimed.map_err(|error| RaftError::Fatal(error.to_string()))
    }

    /// Folds the hash of the whole state into 32 bits.
    pub fn hash(&self) -> pb::HashResponse {
        let (_, hash) = self.mvcc.state_hash();
        let folded = u32::try_from((hash >> 32) ^ (hash & u64::from(u32::MAX))).unwrap_or(u32::MAX);
        pb::HashResponse { header: Some(self.header(self.mvcc.revision())), hash: folded }
    }

    pub async fn hash_kv(&self, request: pb::HashKvRequest) -> Result<pb::HashKvResponse, RaftError> {
        let _place = self.admit(0)?;
        let mvcc = Arc::clone(&self.mvcc);
        let (hash, compact_revision, hash_revision) = self.env.offload(move || mvcc.hash_kv(request.revision)).await?;
        let header = Some(self.header(self.mvcc.revision()));
        Ok(pb::HashKvResponse { header, hash, compact_revision, hash_revision })
    }

    /// Hands leadership over; only the leader does it, only to a voter.
    pub async fn move_leader(&self, request: pb::MoveLeaderRequest) -> Result<pb::MoveLeaderResponse, RaftError> {
        let status = self.raft.status();
        if !status.is_leader() {
            return Err(ApiError::NotLeader.into());
        }
        if !status.voters.contains(&request.target_id) {
            return Err(ApiError::BadLeaderTransferee.into());
        }
        if request.target_id != self.member_id && !self.hand_over(request.target_id, LEADER_TRANSFER_TIME_MAX).await {
            return Err(ApiError::TimeoutLeaderTransfer.into());
        }
        Ok(pb::MoveLeaderResponse { header: Some(self.header(self.mvcc.revision())) })
    }

    /// Asks Raft to make `target` the leader; true once this member knows that it is.
    pub async fn hand_over(&self, target: u64, time_max: Duration) -> bool {
        let mut status = self.status_watch();
        let handed_over = async {
            if let Err(error) = self.raft.transfer_leader(target).await {
                tracing::info!(target = format!("{target:x}"), %error, "leadership was not handed over");
                return false;
            }
            status.wait_for(|status| status.leader == Some(target)).await.is_ok()
        };
        tokio::time::timeout(time_max, handed_over).await.unwrap_or(false)
    }
}

fn alarm_text(alarm: &pb::AlarmMember) -> String {
    format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name())
}

fn saturating(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
