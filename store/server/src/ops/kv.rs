use std::sync::Arc;

use futures::Stream;
use keelstone_env::fault::{self, Point};
use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{check, Caller, Op, RangeChunks, Response};
use keelstone_raft::RaftError;
use prost::Message;

use crate::{
    admission::Admitted,
    auth::Credentials,
    constants::{COMPACT_REST_MIN, COMPACT_REST_RATIO, COMPACT_STEP_BUDGET},
    member::Member,
    retention,
};

/// Why a range is not streamed.
#[derive(Debug, thiserror::Error)]
pub enum StreamRefused {
    #[error("a range in this order or with these filters is not served as a stream")]
    Unimplemented,
    #[error(transparent)]
    Raft(#[from] RaftError),
}

impl From<ApiError> for StreamRefused {
    fn from(error: ApiError) -> Self {
        Self::Raft(error.into())
    }
}

impl Member {
    /// Reads; linearizable unless `serializable`.
    pub async fn range(
        &self,
        request: pb::RangeRequest,
        credentials: &Credentials,
    ) -> Result<pb::RangeResponse, RaftError> {
        check::range(&request)?;
        let mut place = self.admit(request.encoded_len())?;
        if !request.serializable {
            self.read_index().await?;
        }
        fault::pause(Point::RangeRead).await;
        let mut response = self.read(request, self.caller(credentials)?, &mut place).await?;
        self.fill_header(&mut response.header);
        Ok(response)
    }

    async fn read(
        &self,
        request: pb::RangeRequest,
        caller: Option<Caller>,
        place: &mut Admitted,
    ) -> Result<pb::RangeResponse, ApiError> {
        if request.range_end.is_empty() {
            // One key is at most a few blocks, less work than handing it to another thread.
            return self.mvcc.range_for(&request, caller.as_ref(), &mut |bytes| place.grow(bytes));
        }
        let mvcc = Arc::clone(&self.mvcc);
        // A place of its own: an answer that nobody waits for any longer is still being read.
        let mut answer = self.admit(0)?;
        let read = move || (mvcc.range_for(&request, caller.as_ref(), &mut |bytes| answer.grow(bytes)), answer);
        let (response, answer) = self.env.offload(read).await;
        place.join(answer);
        response
    }

    /// A range in chunks of about a request's largest size, from one moment; linearizable unless `serializable`.
    /// The last chunk has header, count and `more`. Room for a chunk is taken for as long as the stream lives.
    ///
    /// # Errors
    /// `Unimplemented` for an order other than the keys' and for filters by revision.
    pub async fn range_stream(
        self: Arc<Self>,
        request: pb::RangeRequest,
        credentials: &Credentials,
    ) -> Result<impl Stream<Item = Result<pb::RangeResponse, ApiError>> + Send + use<>, StreamRefused> {
        check::range(&request)?;
        if !RangeChunks::is_supported(&request) {
            return Err(StreamRefused::Unimplemented);
        }
        let chunk_bytes = self.limits.request_bytes_max;
        let place = self.admit(request.encoded_len() + chunk_bytes)?;
        if !request.serializable {
            self.read_index().await?;
        }
        fault::pause(Point::RangeRead).await;
        let (mvcc, caller) = (Arc::clone(&self.mvcc), self.caller(credentials)?);
        let chunks = self.env.offload(move || mvcc.range_chunks_for(request, caller.as_ref())).await?;
        Ok(futures::stream::try_unfold((self, chunks, place), move |(member, mut chunks, place)| async move {
            let (chunk, chunks) = member.env.offload(move || (chunks.next_chunk(chunk_bytes), chunks)).await;
            let Some(mut chunk) = chunk? else { return Ok(None) };
            if chunk.header.is_some() {
                member.fill_header(&mut chunk.header);
            }
            Ok(Some((chunk, (member, chunks, place))))
        }))
    }

    pub async fn put(&self, request: pb::PutRequest, credentials: &Credentials) -> Result<pb::PutResponse, RaftError> {
        check::put(&request)?;
        let _place = self.admit_write(&request)?;
        match self.propose_for(Op::Put(request), credentials).await? {
            Response::Put(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
        credentials: &Credentials,
    ) -> Result<pb::DeleteRangeResponse, RaftError> {
        check::delete_range(&request)?;
        let _place = self.admit_write(&request)?;
        match self.propose_for(Op::DeleteRange(request), credentials).await? {
            Response::DeleteRange(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub async fn txn(&self, request: pb::TxnRequest, credentials: &Credentials) -> Result<pb::TxnResponse, RaftError> {
        check::txn(&request, self.limits.txn_ops_max)?;
        fault::pause(Point::TxnChecked).await;
        let _place = self.admit_write(&request)?;
        match self.propose_for(Op::Txn(request), credentials).await? {
            Response::Txn(mut response) => {
                self.fill_header(&mut response.header);
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub async fn compact(
        &self,
        request: pb::CompactionRequest,
        credentials: &Credentials,
    ) -> Result<pb::CompactionResponse, RaftError> {
        let _place = self.admit_write(&request)?;
        let physical = request.physical;
        let Some(request) = retention::allowed(self, request)? else {
            return Ok(pb::CompactionResponse { header: Some(self.header(self.mvcc.revision())) });
        };
        match self.propose_for(Op::Compact(request), credentials).await? {
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
            let began = self.env.now();
            let step = self.env.offload(move || mvcc.compact_step(budget)).await;
            let took = self.env.now() - began;
            match step {
                Ok(true) if !self.stopping.is_cancelled() => {
                    tokio::time::sleep((took * COMPACT_REST_RATIO).max(COMPACT_REST_MIN)).await;
                }
                Ok(_) => return Ok(()),
                Err(error) => return Err(RaftError::Fatal(error.to_string())),
            }
        }
    }

    /// As [`Member::admit`], for what enters the log.
    pub fn admit_write(&self, request: &impl Message) -> Result<Admitted, ApiError> {
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
