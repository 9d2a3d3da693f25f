//! The etcd v3 gRPC services: metadata, counting and status codes around [`crate::ops`].

mod auth;
mod cluster;
mod coordination;
mod health;
mod kv;
mod lease;
mod maintenance;
mod unary;
mod watch;

use std::{future::Future, sync::Arc, time::Duration};

use keelstone_etcd_api::{
    healthpb::health_server::HealthServer,
    pb::{
        auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
        maintenance_server::MaintenanceServer, watch_server::WatchServer,
    },
    v3electionpb::election_server::ElectionServer,
    v3lockpb::lock_server::LockServer,
    ApiError,
};
use keelstone_raft::RaftError;
use tonic::{service::Routes, Code, Response, Status};

pub(crate) use unary::direct_method;

use crate::{auth::Credentials, constants::GRPC_OVERHEAD_BYTES, member::Member, method::Method};

/// The services of one member; cheap to clone.
#[derive(Clone)]
pub(crate) struct Services {
    member: Arc<Member>,
}

impl Services {
    pub fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    /// All services that clients see. What is not served answers `Unimplemented` and says its name.
    pub fn client_routes(&self) -> Routes {
        let bytes_max = self.member.limits.request_bytes_max + GRPC_OVERHEAD_BYTES;
        let kv = KvServer::new(self.clone()).max_decoding_message_size(bytes_max);
        let watch = WatchServer::new(self.clone()).max_decoding_message_size(bytes_max);
        let routes = Routes::new(kv)
            .add_service(watch)
            .add_service(AuthServer::new(self.clone()))
            .add_service(LockServer::new(self.clone()))
            .add_service(ElectionServer::new(self.clone()))
            .add_service(LeaseServer::new(self.clone()))
            .add_service(ClusterServer::new(self.clone()))
            .add_service(MaintenanceServer::new(self.clone()))
            .add_service(HealthServer::new(self.clone()));
        let routes = reflection(routes);
        Routes::from(routes.into_axum_router().fallback_service(tower::service_fn(not_served))).prepare()
    }

    /// Runs one unary call: `hasleader` is honoured, who may not call the method at all is refused, the call is
    /// counted, its error becomes a gRPC status.
    async fn unary<T>(
        &self,
        method: Method,
        credentials: &Credentials,
        call: impl Future<Output = Result<T, RaftError>>,
    ) -> Result<Response<T>, Status> {
        let started = self.member.env.now();
        self.member.metrics.started(method);
        let allowed = self.check(method, credentials).and_then(|_| self.member.allow(method, credentials));
        let result = match allowed {
            Ok(()) => call.await,
            Err(error) => Err(error.into()),
        };
        let result = result.map_err(|error| Status::from(error.api()));
        let code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.member.metrics.handled(method, code, started.elapsed());
        result.map(Response::new)
    }

    /// True if the caller wants to be told when there is no leader.
    ///
    /// # Errors
    /// If it does and there is none, or this member does not serve `method`.
    fn check(&self, method: Method, credentials: &Credentials) -> Result<bool, ApiError> {
        self.member.serves(method)?;
        let wanted = credentials.metadata("hasleader") == Some("true");
        if wanted {
            self.member.require_leader()?;
        }
        Ok(wanted)
    }
}

/// Adds the reflection services, by which tools learn what is served here. The descriptors are embedded: they can
/// be read, as a test shows, so without them is only said, not refused.
fn reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(keelstone_etcd_api::DESCRIPTORS)
            .include_reflection_service(false)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "the contract's descriptors cannot be read");
            routes
        }
    }
}

/// Counts a stream when it ends, also when its client just went away.
struct StreamCount {
    member: Arc<Member>,
    method: Method,
    code: Code,
}

impl StreamCount {
    fn start(member: &Arc<Member>, method: Method) -> Self {
        member.metrics.started(method);
        Self { member: Arc::clone(member), method, code: Code::Cancelled }
    }

    /// Says how the stream ends. (A method, so that a generator captures the whole and not a copy of `code`.)
    fn ends(&mut self, code: Code) {
        self.code = code;
    }

    /// A refused stream's error.
    fn refuse(mut self, error: ApiError) -> Status {
        self.code = error.code();
        error.into()
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        // The length of a stream says nothing about the server.
        self.member.metrics.handled(self.method, self.code, Duration::ZERO);
    }
}

/// The answer to a method that this store does not have.
fn unimplemented(what: &str) -> Status {
    Status::unimplemented(format!("etcdserver: {what} is not served by this store"))
}

async fn not_served<B>(
    request: http::Request<B>,
) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
    Ok(unimplemented(request.uri().path().trim_start_matches('/')).into_http())
}
