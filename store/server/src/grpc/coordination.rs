use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use keelstone_etcd_api::{
    v3electionpb::{self, election_server::Election},
    v3lockpb::{self, lock_server::Lock},
};
use tonic::{Code, Request, Response, Status};

use super::{Services, StreamCount};
use crate::{auth::Credentials, method::Method};

#[tonic::async_trait]
impl Lock for Services {
    async fn lock(&self, request: Request<v3lockpb::LockRequest>) -> Result<Response<v3lockpb::LockResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Lock, &credentials, self.member.lock(request, &credentials)).await
    }

    async fn unlock(
        &self,
        request: Request<v3lockpb::UnlockRequest>,
    ) -> Result<Response<v3lockpb::UnlockResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Unlock, &credentials, self.member.unlock(request, &credentials)).await
    }
}

#[tonic::async_trait]
impl Election for Services {
    async fn campaign(
        &self,
        request: Request<v3electionpb::CampaignRequest>,
    ) -> Result<Response<v3electionpb::CampaignResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Campaign, &credentials, self.member.campaign(request, &credentials)).await
    }

    async fn proclaim(
        &self,
        request: Request<v3electionpb::ProclaimRequest>,
    ) -> Result<Response<v3electionpb::ProclaimResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Proclaim, &credentials, self.member.proclaim(request, &credentials)).await
    }

    async fn leader(
        &self,
        request: Request<v3electionpb::LeaderRequest>,
    ) -> Result<Response<v3electionpb::LeaderResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Leader, &credentials, self.member.election_leader(request, &credentials)).await
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<v3electionpb::LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<v3electionpb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (credentials, request) = Credentials::split(request);
        let mut count = StreamCount::start(&self.member, Method::Observe);
        if let Err(error) = self.check(Method::Observe, &credentials) {
            return Err(count.refuse(error));
        }
        let said = Arc::clone(&self.member).observe_election(request, credentials);
        let counted = async_stream::stream! {
            let mut code = Code::Ok;
            for await answer in said {
                let answer = answer.map_err(|error| Status::from(error.api()));
                if let Err(status) = &answer {
                    code = status.code();
                }
                yield answer;
            }
            count.ends(code);
        };
        Ok(Response::new(counted.boxed()))
    }

    async fn resign(
        &self,
        request: Request<v3electionpb::ResignRequest>,
    ) -> Result<Response<v3electionpb::ResignResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Resign, &credentials, self.member.resign(request, &credentials)).await
    }
}
