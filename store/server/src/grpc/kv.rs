use std::pin::Pin;

use futures::Stream;
use keelstone_etcd_api::pb::{self, kv_server::Kv};
use tonic::{Request, Response, Status};

use super::{unimplemented, Services};
use crate::method::Method;

#[tonic::async_trait]
impl Kv for Services {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::Range, &metadata, self.member.range(request)).await
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(&self, _: Request<pb::RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(unimplemented("RangeStream"))
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
