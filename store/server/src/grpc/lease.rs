use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use keelstone_etcd_api::{
    pb::{self, lease_server::Lease},
    ApiError,
};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Services, StreamCount};
use crate::{auth::Credentials, method::Method};

#[tonic::async_trait]
impl Lease for Services {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::LeaseGrant, &credentials, self.member.lease_grant(request, &credentials)).await
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::LeaseRevoke, &credentials, self.member.lease_revoke(request, &credentials)).await
    }

    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut count = StreamCount::start(&self.member, Method::LeaseKeepAlive);
        let (credentials, mut requests) = Credentials::split(request);
        if let Err(error) = self.check(Method::LeaseKeepAlive, &credentials) {
            return Err(count.refuse(error));
        }
        let member = Arc::clone(&self.member);
        let answers = async_stream::stream! {
            loop {
                let request = tokio::select! {
                    biased;
                    () = member.stopping.cancelled() => Err(Status::from(ApiError::Stopped)),
                    request = requests.message() => request,
                };
                let answer = match request {
                    Ok(Some(request)) => member.lease_keep_alive(request.id, &credentials).await.map_err(|e| e.api().into()),
                    Ok(None) => {
                        count.ends(Code::Ok);
                        break;
                    }
                    Err(status) => Err(status),
                };
                // An error ends the stream, as in etcd; a missing lease is an answer with a TTL of 0.
                let failed = answer.as_ref().err().map(Status::code);
                yield answer;
                if let Some(failed) = failed {
                    count.ends(failed);
                    break;
                }
            }
        };
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::LeaseTimeToLive, &credentials, self.member.lease_time_to_live(request, &credentials)).await
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let (credentials, _) = Credentials::split(request);
        self.unary(Method::LeaseLeases, &credentials, self.member.lease_leases(&credentials)).await
    }
}
