use std::sync::Arc;

use keelstone_env::fault::{self, Point};
use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{check, Op, Response};
use keelstone_raft::RaftError;
use prost::Message;

use crate::{
    constants::{COMPACT_STEP_BUDGET, COMPACT_STEP_PAUSE},
    member::Member,
};

impl Member {
    /// Reads; linearizable unless `serializable`.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, RaftError> {
        check::range(&request)?;
        let _place = self.admit(request.encoded_len())?;
        if !request.serializable {
            self.read_index().await?;
        }
        fault::pause(Point::RangeRead).await;
        let mut response = self.read(request).await?;
        self.fill_header(&mut response.header);
        Ok(response)
    }

    async fn read(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, ApiError> {
        if request.range_end.is_empty() {
            // One key is at most a few blocks, less work than handing it to another thread.
            return self.mvcc.range(&request);
        }
        let mvcc = Arc::clone(&self.mvcc);
        self.env.offload(move || mvcc.range(&request)).await
    }

    pub async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, RaftError> {
        check::put(&request)?;
        let _place = self.admit_write(&request)?;
        match self.propose(Op::Put(request)).await? {
            Response::Put(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, RaftError> {
        check::delete_range(&request)?;
        let _place = self.admit_write(&request)?;
        match self.propose(Op::DeleteRange(request)).await? {
            Response::DeleteRange(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, RaftError> {
        check::txn(&request, self.limits.txn_ops_max)?;
        fault::pause(Point::TxnChecked).await;
        let _place = self.admit_write(&request)?;
        match self.propose(Op::Txn(request)).await? {
            Response::Txn(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, RaftError> {
        let _place = self.admit_write(&request)?;
        let physical = request.physical;
        match self.propose(Op::Compact(request)).await? {
            Response::Compact(mut response) => {
                if physical {
                    self.compact_physically().await?;
                }
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Removes what compaction made unreadable, in small steps beside traffic, until nothing is left.
    pub async fn compact_physically(&self) -> Result<(), RaftError> {
        let _alone = self.compaction.lock().await;
        loop {
            let mvcc = Arc::clone(&self.mvcc);
            fault::pause(Point::CompactStep).await;
            let budget = if fault::rare(Point::CompactSmall) { 1 } else { COMPACT_STEP_BUDGET };
            let step = self.env.offload(move || mvcc.compact_step(budget)).await;
            match step {
                Ok(true) if !self.stopping.is_cancelled() => tokio::time::sleep(COMPACT_STEP_PAUSE).await,
                Ok(_) => return Ok(()),
                Err(error) => return Err(RaftError::Fatal(error.to_string())),
            }
        }
    }

    /// As [`Member::admit`], for what enters the log.
    pub fn admit_write<'a>(&'a self, request: &impl Message) -> Result<crate::admission::Admitted<'a>, ApiError> {
        let bytes = request.encoded_len();
        if bytes > self.limits.request_bytes_max {
            return Err(ApiError::RequestTooLarge);
        }
        self.admit(bytes)
    }
}

/// An answer of another kind than the command: the state machine and this member disagree on the command, so
/// nothing can be said about its outcome.
pub(super) fn unexpected(response: &Response) -> RaftError {
    RaftError::Unknown(format!("the state machine answered {response:?}"))
}
