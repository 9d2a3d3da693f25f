use std::sync::{
    atomic::{AtomicBool, Ordering},
    Arc, OnceLock,
};

use keelstone_access::{admission::Admission, authn::Authenticator, authz::Rbac, Lister};
use keelstone_env::{Env, TlsConnector};
use keelstone_registry::Registry;
use keelstone_storage::Cacher;
use keelstone_store_client::EtcdKv;
use tokio::sync::watch;

use crate::{
    allocate::Pools, config::ApiServerConfig, discovery::Discovery, in_flight::InFlight, metrics::Metrics,
    openapi::OpenApi, perturb::Perturber,
};

/// What all requests and loops of one API server share.
pub struct State {
    pub env: Env,
    pub config: ApiServerConfig,
    pub kv: Arc<dyn EtcdKv>,
    pub cacher: Arc<Cacher>,
    pub registry: Arc<Registry>,
    pub lister: Arc<dyn Lister>,
    pub authenticator: Authenticator,
    pub rbac: Rbac,
    pub admission: Admission,
    pub pools: Pools,
    pub openapi: OpenApi,
    pub metrics: Metrics,
    pub in_flight: InFlight,
    /// Set by a plan of perturbation.
    pub perturber: Option<Arc<Perturber>>,
    /// How node agents are reached; `None` without a client certificate for them.
    pub node_tls: Option<Arc<dyn TlsConnector>>,
    /// Known once the port is.
    pub discovery: OnceLock<Discovery>,
    /// What must exist at the start has been seen to exist.
    pub bootstrapped: AtomicBool,
    /// True once the server is to stop.
    pub stop: watch::Sender<bool>,
}

impl State {
    pub fn is_bootstrapped(&self) -> bool {
        self.bootstrapped.load(Ordering::Acquire)
    }

    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}
