use std::pin::Pin;

use futures::Stream;
use keelstone_etcd_api::pb::{self, maintenance_server::Maintenance};
use tonic::{Request, Response, Status};

use super::{Services, StreamCount};
use crate::{auth::Credentials, method::Method};

#[tonic::async_trait]
impl Maintenance for Services {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Alarm, &credentials, self.member.alarm(request, &credentials)).await
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let answer = async { Ok(self.member.status_response()) };
        self.unary(Method::Status, &Credentials::split(request).0, answer).await
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.unary(Method::Defragment, &Credentials::split(request).0, self.member.defragment()).await
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        self.unary(Method::Hash, &Credentials::split(request).0, async { Ok(self.member.hash()) }).await
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::HashKv, &credentials, self.member.hash_kv(request)).await
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let mut count = StreamCount::start(&self.member, Method::Snapshot);
        let (credentials, _) = Credentials::split(request);
        let allowed = self.check(Method::Snapshot, &credentials);
        if let Err(error) = allowed.and_then(|_| self.member.allow(Method::Snapshot, &credentials)) {
            return Err(count.refuse(error));
        }
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
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::MoveLeader, &credentials, self.member.move_leader(request)).await
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        let answer = async { Ok(self.member.downgrade(&request)?) };
        self.unary(Method::Downgrade, &credentials, answer).await
    }
}
