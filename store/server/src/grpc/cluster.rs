use keelstone_etcd_api::pb::{self, cluster_server::Cluster};
use tonic::{Request, Response, Status};

use super::Services;
use crate::{auth::Credentials, method::Method};

#[tonic::async_trait]
impl Cluster for Services {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::MemberList, &credentials, self.member.member_list(request)).await
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::MemberAdd, &credentials, self.member.member_add(request)).await
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::MemberRemove, &credentials, self.member.member_remove(request)).await
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::MemberUpdate, &credentials, self.member.member_update(request)).await
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::MemberPromote, &credentials, self.member.member_promote(request)).await
    }
}
