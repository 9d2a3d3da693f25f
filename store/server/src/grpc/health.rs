use std::{pin::Pin, sync::Arc};

use futures::Stream;
use keelstone_etcd_api::healthpb::{
    health_check_response::ServingStatus, health_server::Health, HealthCheckRequest, HealthCheckResponse,
};
use tonic::{Request, Response, Status};

use super::Services;
use crate::{constants::HEALTH_POLL_INTERVAL, member::Member};

/// The one name, beside the services' own, that stands for the whole member.
const WHOLE: &str = "";

/// Says whether this member serves; `None` for a service that it does not have.
fn serving(member: &Member, service: &str) -> Option<ServingStatus> {
    let known = [WHOLE, "etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease", "etcdserverpb.Cluster"];
    if !known.contains(&service) && !matches!(service, "etcdserverpb.Maintenance" | "etcdserverpb.Auth") {
        return None;
    }
    let serves = !member.stopping.is_cancelled() && member.status().failed.is_none();
    Some(if serves { ServingStatus::Serving } else { ServingStatus::NotServing })
}

#[tonic::async_trait]
impl Health for Services {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match serving(&self.member, &request.into_inner().service) {
            Some(status) => Ok(Response::new(HealthCheckResponse { status: status.into() })),
            None => Err(Status::not_found("unknown service")),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Answers at once and at every change; a service that is not there is `SERVICE_UNKNOWN`.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (member, service) = (Arc::clone(&self.member), request.into_inner().service);
        let statuses = async_stream::stream! {
            let mut said = None;
            loop {
                let status = serving(&member, &service).unwrap_or(ServingStatus::ServiceUnknown);
                if said.replace(status) != Some(status) {
                    yield Ok(HealthCheckResponse { status: status.into() });
                }
                if member.stopping.is_cancelled() {
                    break;
                }
                tokio::select! {
                    biased;
                    () = member.stopping.cancelled() => {}
                    () = tokio::time::sleep(HEALTH_POLL_INTERVAL) => {}
                }
            }
        };
        Ok(Response::new(Box::pin(statuses)))
    }
}
