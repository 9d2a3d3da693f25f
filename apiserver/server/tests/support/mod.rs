//! An API server in the test's own process, without a network.
#![allow(dead_code, reason = "each test uses its own part")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use keelstone_access::User;
use keelstone_apiserver::{ApiServer, ApiServerConfig, RunningApiServer};
use keelstone_env::Env;
use keelstone_storage::testing::MemoryKv;
use tower::ServiceExt;

/// A key for service account tokens, made for these tests and used nowhere else.
pub const TOKEN_KEY: &str = include_str!("token-key.pem");
const READY_POLL: Duration = Duration::from_millis(10);

pub struct TestServer {
    pub running: RunningApiServer,
    pub kv: Arc<MemoryKv>,
}

pub fn admin() -> User {
    user("kubernetes-admin", "system:masters")
}

/// A user with groups given as `a,b`, beside that of everybody who authenticated.
pub fn user(name: &str, groups: &str) -> User {
    let groups: Vec<&str> = groups.split(',').filter(|g| !g.is_empty()).chain(["system:authenticated"]).collect();
    User::new(name, &groups)
}

impl TestServer {
    /// Starts a server and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with another configuration.
    pub async fn start_with(change: impl FnOnce(&mut ApiServerConfig)) -> Self {
        let kv = MemoryKv::new();
        let mut config = ApiServerConfig::new("m1", TOKEN_KEY);
        change(&mut config);
        let running = ApiServer::start(Env::os(), config, kv.clone()).await.unwrap();
        while !running.is_ready().await {
            tokio::time::sleep(READY_POLL).await;
        }
        Self { running, kv }
    }

    pub async fn send(&self, who: User, request: Request<Bytes>) -> (u16, HeaderMap, Bytes) {
        let service = self.running.local_service(who);
        let response = service.oneshot(request.map(Full::new)).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        // Roles are read from the watch cache, which follows the store a moment later.
        tokio::time::sleep(READY_POLL).await;
        (head.status.as_u16(), head.headers, body)
    }

    pub async fn stop(self) {
        self.running.shutdown().await;
    }
}
