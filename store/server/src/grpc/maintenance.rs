use std::pin::Pin;

use futures::Stream;
use keelstone_etcd_api::pb::{self, maintenance_server::Maintenance};
use tonic::{Request, Response, Status};

use super::{unimplemented, Services, StreamCount};
use crate::method::Method;

#[tonic::async_trait]
impl Maintenance for Services {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::Alarm, &metadata, self.member.alarm(request)).await
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let answer = async { Ok(self.member.status_response()) };
        self.unary(Method::Status, request.metadata(), answer).await
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.unary(Method::Defragment, request.metadata(), self.member.defragment()).await
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        self.unary(Method::Hash, request.metadata(), async { Ok(self.member.hash()) }).await
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::HashKv, &metadata, self.member.hash_kv(request)).await
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let mut count = StreamCount::start(&self.member, Method::Snapshot);
        match self.member.snapshot().await {
            Ok(mut snapshot) => {
                let stream = async_stream::stream! {
                    while let Some(message) = snapshot.next().await.transpose() {
                        let failed = message.is_err();
                        yield message.map_err(Status::from);
                        if failed {
                            return count.ends(tonic::Code::Internal);
                        }
                    }
                    count.ends(tonic::Code::Ok);
                };
                Ok(Response::new(Box::pin(stream)))
            }
            Err(error) => Err(count.refuse(error)),
        }
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.unary(Method::MoveLeader, &metadata, self.member.move_leader(request)).await
    }

    async fn downgrade(&self, _: Request<pb::DowngradeRequest>) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(unimplemented("Downgrade"))
    }
}
