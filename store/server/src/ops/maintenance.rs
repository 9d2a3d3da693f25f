use std::{sync::Arc, time::Duration};

use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{Op, Response};
use keelstone_raft::RaftError;

use super::kv::unexpected;
use crate::{
    auth::Credentials,
    constants::{CLUSTER_VERSION, DOWNGRADE_TARGET, ETCD_VERSION, LEADER_TRANSFER_TIME_MAX, STORAGE_VERSION},
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

    /// Whether a cluster of this version may go back to another one, as etcd judges it: by the version before its own.
    /// To begin it is refused: no older release knows this store's formats.
    pub fn downgrade(&self, request: &pb::DowngradeRequest) -> Result<pb::DowngradeResponse, ApiError> {
        use pb::downgrade_request::DowngradeAction;
        if request.action == DowngradeAction::Cancel as i32 {
            return Err(ApiError::NoInflightDowngrade);
        }
        let parts: Vec<&str> = request.version.split('.').collect();
        let is_version = matches!(parts.len(), 2 | 3) && parts.iter().all(|part| part.parse::<u32>().is_ok());
        if !is_version {
            return Err(ApiError::WrongDowngradeFormat);
        }
        if request.action != DowngradeAction::Validate as i32 || parts[..2] != DOWNGRADE_TARGET {
            return Err(ApiError::InvalidDowngradeTarget);
        }
        Ok(pb::DowngradeResponse {
            header: Some(self.header(self.mvcc.revision())),
            version: CLUSTER_VERSION.to_owned(),
        })
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
