use std::{
    io,
    sync::{atomic::AtomicBool, Arc, OnceLock},
};

use keelstone_access::{
    admission::Admission,
    authn::{Authenticator, AuthnConfig, StaticTokens, TokenIssuer, TokenKeys},
    authz::Rbac,
    Lister, User,
};
use keelstone_env::{Env, Listener};
use keelstone_machinery::ResourceInfo;
use keelstone_registry::{Registry, Resource};
use keelstone_storage::Cacher;
use keelstone_store_client::EtcdKv;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    allocate::Pools,
    bootstrap,
    config::ApiServerConfig,
    discovery::Discovery,
    health,
    in_flight::InFlight,
    listener,
    lister::CacheLister,
    local::LocalService,
    metrics::Metrics,
    openapi::OpenApi,
    perturb::{Perturber, Report},
    state::State,
    virtual_resources::VIRTUAL,
};

/// Why an API server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the address {address} cannot be listened on: {source}")]
    Listen { address: String, source: io::Error },
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("{0}")]
    Config(String),
}

/// The API server.
pub struct ApiServer;

/// An API server at work. Dropping it does not stop it: [`RunningApiServer::shutdown`] does.
pub struct RunningApiServer {
    state: Arc<State>,
    address: Option<String>,
    tasks: Vec<JoinHandle<()>>,
}

impl ApiServer {
    /// Starts to serve. Returns as soon as requests are accepted; `/readyz` says when the caches are filled
    /// and the cluster's first objects are there.
    ///
    /// # Errors
    /// An address, key or certificate that cannot be used.
    pub async fn start(env: Env, config: ApiServerConfig, kv: Arc<dyn EtcdKv>) -> Result<RunningApiServer, StartError> {
        Self::start_with(env, config, kv, keelstone_resources::all()).await
    }

    /// Starts to serve these resources.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub async fn start_with(
        env: Env,
        mut config: ApiServerConfig,
        kv: Arc<dyn EtcdKv>,
        resources: Vec<&'static dyn Resource>,
    ) -> Result<RunningApiServer, StartError> {
        let listener = bind(&env, &config).await?;
        if let (Some(listener), 0) = (&listener, config.advertise_port) {
            config.advertise_port = listener.port();
        }
        let tls = match &config.tls {
            Some(tls) => Some(env.tls().server(tls).map_err(StartError::Tls)?),
            None => None,
        };
        let state = Arc::new(build(env, config, kv, resources)?);
        let infos = served(&state.registry);
        let address = format!("{}:{}", state.config.advertise_host, state.config.advertise_port);
        // Set once, here.
        let _ = state.discovery.set(Discovery::new(&infos, &address));
        let mut tasks = vec![
            state.env.spawn(bootstrap::run(state.clone(), state.stop.subscribe())),
            state.env.spawn(compact(state.clone(), state.stop.subscribe())),
        ];
        let address = listener.as_ref().map(|l| l.address());
        if let Some(listener) = listener {
            tasks.push(state.env.spawn(listener::run(state.clone(), listener, tls, state.stop.subscribe())));
        }
        Ok(RunningApiServer { state, address, tasks })
    }
}

/// Compacts the store's history, in turn with the other API servers, until the server stops.
async fn compact(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        // A sender that is gone means that the server is gone too.
        _ = stop.wait_for(|stopped| *stopped) => {}
        () = keelstone_storage::compact_forever(state.env.clone(), state.kv.clone()) => {}
    }
}

async fn bind(env: &Env, config: &ApiServerConfig) -> Result<Option<Box<dyn Listener>>, StartError> {
    match &config.listen {
        None => Ok(None),
        Some(address) => match env.net().bind(address).await {
            Ok(listener) => Ok(Some(listener)),
            Err(source) => Err(StartError::Listen { address: address.clone(), source }),
        },
    }
}

fn build(
    env: Env,
    config: ApiServerConfig,
    kv: Arc<dyn EtcdKv>,
    resources: Vec<&'static dyn Resource>,
) -> Result<State, StartError> {
    let cacher = Cacher::start(env.clone(), kv.clone());
    let registry = Registry::new(env.clone(), cacher.clone(), resources);
    let lister: Arc<dyn Lister> = Arc::new(CacheLister::new(registry.clone()));
    let tokens = StaticTokens::parse(&config.static_tokens).map_err(StartError::Config)?;
    let wrong_key = |error: keelstone_access::authn::TokenError| StartError::Config(error.to_string());
    let mut keys = TokenKeys::from_pem(&config.service_account_key).map_err(wrong_key)?;
    for old in &config.service_account_old_keys {
        keys.accept_also(old).map_err(wrong_key)?;
    }
    let issuer = Arc::new(TokenIssuer::new(&config.service_account_issuer, config.api_audiences.clone(), keys));
    let authn = AuthnConfig { tokens, issuer, anonymous: config.anonymous };
    let node_tls = match &config.node_client {
        Some(tls) => Some(env.tls().client(tls).map_err(StartError::Tls)?),
        None => None,
    };
    Ok(State {
        authenticator: Authenticator::new(authn, lister.clone()),
        rbac: Rbac::new(lister.clone()),
        admission: Admission::new(env.clone(), lister.clone(), config.admission.clone()),
        pools: Pools::new(&env, &cacher, config.service_cidr, config.node_port_range),
        openapi: OpenApi::new(served(&registry)),
        metrics: Metrics::default(),
        in_flight: InFlight::default(),
        perturber: config.perturbation.clone().map(|plan| Arc::new(Perturber::new(env.clone(), plan))),
        node_tls,
        discovery: OnceLock::new(),
        bootstrapped: AtomicBool::new(false),
        stop: watch::Sender::new(false),
        env,
        config,
        kv,
        cacher,
        registry,
        lister,
    })
}

/// All resources that discovery shows.
fn served(registry: &Registry) -> Vec<&'static ResourceInfo> {
    registry.iter().iter().map(|store| store.info()).chain(VIRTUAL.iter()).collect()
}

impl RunningApiServer {
    /// The API for clients in this process, which act as `user`.
    pub fn local_service(&self, user: User) -> LocalService {
        LocalService::new(self.state.clone(), user)
    }

    /// Where connections are accepted, as `ip:port`; `None` without a listener.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// What `/readyz` would say.
    pub async fn is_ready(&self) -> bool {
        health::is_ready(&self.state).await
    }

    /// The writes of the users whom a plan of perturbation names; `None` without a plan.
    pub fn perturbation(&self) -> Option<Report> {
        self.state.perturber.as_ref().map(|perturber| perturber.report())
    }

    /// Stops accepting, lets open requests end for a moment, and ends watches.
    pub async fn shutdown(mut self) {
        self.state.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            // A task that panicked has nothing left to stop.
            let _ = task.await;
        }
        self.state.cacher.shutdown();
    }
}
