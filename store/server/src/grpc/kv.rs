use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use keelstone_etcd_api::{
    pb::{self, kv_server::Kv},
    ApiError,
};
use tonic::{Request, Response, Status};

use super::{unimplemented, Services, StreamCount};
use crate::{method::Method, ops::StreamRefused};

#[tonic::async_trait]
impl Kv for Services {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::Range, &metadata, self.member.range(request)).await
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let mut count = StreamCount::start(&self.member, Method::RangeStream);
        let (metadata, _, request) = request.into_parts();
        if let Err(error) = self.check_leader(&metadata) {
            return Err(count.refuse(error));
        }
        let mut chunks = match Arc::clone(&self.member).range_stream(request).await {
            Ok(chunks) => Box::pin(chunks),
            Err(StreamRefused::Raft(error)) => return Err(count.refuse(error.api())),
            Err(StreamRefused::Unimplemented) => {
                count.ends(tonic::Code::Unimplemented);
                return Err(unimplemented("RangeStream in this order or with filters"));
            }
        };
        let stopping = self.member.stopping.clone();
        let stream = async_stream::stream! {
            loop {
                let next = tokio::select! {
                    biased;
                    () = stopping.cancelled() => Some(Err(ApiError::Stopped)),
                    next = chunks.next() => next,
                };
                match next {
                    Some(Ok(chunk)) => yield Ok(pb::RangeStreamResponse { range_response: Some(chunk) }),
                    Some(Err(error)) => {
                        count.ends(error.code());
                        yield Err(error.into());
                        break;
                    }
                    None => {
                        count.ends(tonic::Code::Ok);
                        break;
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::Put, &metadata, self.member.put(request)).await
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::DeleteRange, &metadata, self.member.delete_range(request)).await
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::Txn, &metadata, self.member.txn(request)).await
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::Compact, &metadata, self.member.compact(request)).await
    }
}
