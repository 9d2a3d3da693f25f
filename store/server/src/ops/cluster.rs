use keelstone_etcd_api::{pb, ApiError};
use keelstone_raft::{MemberChange, MemberChanged, RaftError, RaftStatus};

use crate::{identity::host_port, member::Member};

impl Member {
    pub async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, RaftError> {
        if request.linearizable {
            self.read_index().await?;
        }
        let members = self.members(&self.status());
        Ok(pb::MemberListResponse { header: Some(self.header(self.mvcc.revision())), members })
    }

    /// The members as the log has them.
    pub fn members(&self, status: &RaftStatus) -> Vec<pb::Member> {
        let member = |(id, info): (&u64, &keelstone_raft::MemberInfo)| pb::Member {
            id: *id,
            name: info.name.clone(),
            peer_ur_ls: info.peer_urls.clone(),
            client_ur_ls: info.client_urls.clone(),
            is_learner: !status.voters.contains(id),
        };
        status.members.iter().map(member).collect()
    }

    /// Adds a member that is to be started afterwards. One that is to vote does so once it has caught up.
    pub async fn member_add(&self, request: pb::MemberAddRequest) -> Result<pb::MemberAddResponse, RaftError> {
        let peer_address = address(&request.peer_ur_ls)?;
        let learner = request.is_learner;
        let peer_urls = request.peer_ur_ls;
        let changed = self.change(MemberChange::Add { peer_urls, peer_address, learner }).await?;
        let (header, members) = self.membership();
        // As etcd says it: the member that was asked for, on its way to a vote or not.
        let added = members.iter().find(|member| member.id == changed.id).cloned();
        let member = added.map(|member| pb::Member { is_learner: learner, ..member });
        Ok(pb::MemberAddResponse { header, member, members })
    }

    pub async fn member_remove(&self, request: pb::MemberRemoveRequest) -> Result<pb::MemberRemoveResponse, RaftError> {
        self.change(MemberChange::Remove { id: request.id }).await?;
        let (header, members) = self.membership();
        Ok(pb::MemberRemoveResponse { header, members })
    }

    pub async fn member_update(&self, request: pb::MemberUpdateRequest) -> Result<pb::MemberUpdateResponse, RaftError> {
        let peer_address = address(&request.peer_ur_ls)?;
        self.change(MemberChange::Update { id: request.id, peer_urls: request.peer_ur_ls, peer_address }).await?;
        let (header, members) = self.membership();
        Ok(pb::MemberUpdateResponse { header, members })
    }

    pub async fn member_promote(
        &self,
        request: pb::MemberPromoteRequest,
    ) -> Result<pb::MemberPromoteResponse, RaftError> {
        self.change(MemberChange::Promote { id: request.id }).await?;
        let (header, members) = self.membership();
        Ok(pb::MemberPromoteResponse { header, members })
    }

    async fn change(&self, change: MemberChange) -> Result<MemberChanged, RaftError> {
        let _place = self.admit(0)?;
        let late = || RaftError::Unknown("the request timed out".into());
        self.within(self.raft.change_members(change), late).await
    }

    fn membership(&self) -> (Option<pb::ResponseHeader>, Vec<pb::Member>) {
        (Some(self.header(self.mvcc.revision())), self.members(&self.raft.status()))
    }
}

/// Where the first URL leads; all must make sense.
fn address(urls: &[String]) -> Result<String, ApiError> {
    let addresses: Option<Vec<String>> = urls.iter().map(|url| host_port(url)).collect();
    addresses.and_then(|addresses| addresses.into_iter().next()).ok_or(ApiError::BadMemberUrls)
}
