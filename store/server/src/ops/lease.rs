use std::sync::{atomic::Ordering::Relaxed, Arc};

use keelstone_etcd_api::pb;
use keelstone_mvcc::{check, Op, Response};
use keelstone_raft::RaftError;

use super::kv::unexpected;
use crate::{auth::Credentials, member::Member};

impl Member {
    /// Chooses the id if the client did not, and raises the TTL to the cluster's minimum.
    pub async fn lease_grant(
        &self,
        mut request: pb::LeaseGrantRequest,
        credentials: &Credentials,
    ) -> Result<pb::LeaseGrantResponse, RaftError> {
        check::lease_grant(&request)?;
        let _place = self.admit_write(&request)?;
        request.ttl = request.ttl.max(self.limits.lease_ttl_s_min);
        if request.id == 0 {
            // Positive, as etcd's; an id that exists already is refused by the state machine.
            request.id = i64::try_from(self.env.random().next_u64() >> 1).unwrap_or(i64::MAX).max(1);
        }
        match self.propose_for(Op::LeaseGrant(request), credentials).await? {
            Response::LeaseGrant(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub async fn lease_revoke(
        &self,
        request: pb::LeaseRevokeRequest,
        credentials: &Credentials,
    ) -> Result<pb::LeaseRevokeResponse, RaftError> {
        let _place = self.admit_write(&request)?;
        match self.propose_for(Op::LeaseRevoke(request), credentials).await? {
            Response::LeaseRevoke(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Renews a lease; a TTL of 0 says that it does not exist.
    pub async fn lease_keep_alive(
        &self,
        id: i64,
        credentials: &Credentials,
    ) -> Result<pb::LeaseKeepAliveResponse, RaftError> {
        let _place = self.admit(0)?;
        if self.mvcc.auth_enabled() {
            let (mvcc, caller) = (Arc::clone(&self.mvcc), self.caller(credentials)?);
            self.env.offload(move || mvcc.auth().check_lease_renew(caller.as_ref(), id)).await?;
        }
        let ttl = self.within(self.raft.lease_keep_alive(id), || RaftError::Timeout).await?;
        if ttl > 0 {
            self.metrics.leases_renewed.fetch_add(1, Relaxed);
        }
        Ok(pb::LeaseKeepAliveResponse { header: Some(self.header(self.mvcc.revision())), id, ttl })
    }

    /// A TTL of -1 says that the lease does not exist.
    pub async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
        credentials: &Credentials,
    ) -> Result<pb::LeaseTimeToLiveResponse, RaftError> {
        let _place = self.admit(0)?;
        self.mvcc.auth().check_known(self.caller(credentials)?.as_ref())?;
        let found = self.within(self.raft.lease_time_to_live(request.id), || RaftError::Timeout).await?;
        let mut response = pb::LeaseTimeToLiveResponse { id: request.id, ttl: -1, ..Default::default() };
        if let Some((remaining_s, granted_s)) = found {
            (response.ttl, response.granted_ttl) = (remaining_s, granted_s);
            if request.keys {
                self.read_index().await?;
                let (mvcc, caller) = (Arc::clone(&self.mvcc), self.caller(credentials)?);
                response.keys = self.env.offload(move || mvcc.lease_keys_for(request.id, caller.as_ref())).await?;
            }
        }
        response.header = Some(self.header(self.mvcc.revision()));
        Ok(response)
    }

    pub async fn lease_leases(&self, credentials: &Credentials) -> Result<pb::LeaseLeasesResponse, RaftError> {
        let _place = self.admit(0)?;
        self.read_index().await?;
        if self.mvcc.auth_enabled() {
            let (mvcc, caller) = (Arc::clone(&self.mvcc), self.caller(credentials)?);
            self.env.offload(move || mvcc.auth().check_leases_read(caller.as_ref())).await?;
        }
        let leases = self.raft.leases().into_iter().map(|lease| pb::LeaseStatus { id: lease.id }).collect();
        Ok(pb::LeaseLeasesResponse { header: Some(self.header(self.mvcc.revision())), leases })
    }
}
