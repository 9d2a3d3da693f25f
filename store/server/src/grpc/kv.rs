use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use keelstone_etcd_api::{
    pb::{self, kv_server::Kv},
    ApiError,
};
use tonic::{Request, Response, Status};

use super::{unimplemented, Services, StreamCount};
use crate::{auth::Credentials, method::Method, ops::StreamRefused};

#[tonic::async_trait]
impl Kv for Services {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Range, &credentials, self.member.range(request, &credentials)).await
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let mut count = StreamCount::start(&self.member, Method::RangeStream);
        let (credentials, request) = Credentials::split(request);
        if let Err(error) = self.check(Method::RangeStream, &credentials) {
            return Err(count.refuse(error));
        }
        let mut chunks = match Arc::clone(&self.member).range_stream(request, &credentials).await {
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
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Put, &credentials, self.member.put(request, &credentials)).await
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::DeleteRange, &credentials, self.member.delete_range(request, &credentials)).await
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Txn, &credentials, self.member.txn(request, &credentials)).await
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Compact, &credentials, self.member.compact(request, &credentials)).await
    }
}
