//! One master put together: a member of the store, an API server on it, and the scheduler and controllers,
//! which reach the API over the network, at any master, and act only while they lead.
//!
//! The binary and the simulation start masters through this crate, so that both run the same code.

use std::{sync::Arc, time::Duration};

use keelstone_apiserver::{ApiServer, ApiServerConfig, RunningApiServer};
use keelstone_client::{CancellationToken, Client, LeaderConfig, TcpOptions};
use keelstone_controllers::ControllersConfig;
use keelstone_engine::Engine;
use keelstone_env::{ClientTls, Env};
use keelstone_runtime::{run_when_leader, LeaderContext};
use keelstone_scheduler::SchedulerConfig;
use keelstone_store_server::{RunningStore, StoreConfig, StoreServer};
use tokio::task::JoinHandle;

/// A candidate that is not at the store's leader waits so long before it stands for election, so that all
/// leading parts begin on one master.
const AWAY_FROM_LEADER_PAUSE: Duration = Duration::from_millis(1_500);
/// Parts that end gracefully get so long together.
const STOP_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    #[error("the store: {0}")]
    Store(#[from] keelstone_store_server::StoreError),
    #[error("the API server: {0}")]
    Api(#[from] keelstone_apiserver::StartError),
    #[error("a client's certificate: {0}")]
    Tls(#[from] std::io::Error),
}

/// When one candidate takes over from another.
#[derive(Clone, Debug)]
pub struct Election {
    pub lease_s: u32,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl Default for Election {
    fn default() -> Self {
        Self { lease_s: 15, renew_deadline: Duration::from_secs(10), retry_period: Duration::from_secs(2) }
    }
}

/// What a master is started with.
pub struct MasterConfig {
    pub store: StoreConfig,
    pub api: ApiServerConfig,
    /// All masters' API servers as `host:port`, this one's first.
    pub masters: Vec<String>,
    /// How the scheduler and the controllers show themselves; `None`: plaintext.
    pub scheduler_tls: Option<ClientTls>,
    pub controllers_tls: Option<ClientTls>,
    pub election: Election,
    pub scheduler: SchedulerConfig,
    pub controllers: ControllersConfig,
}

/// A master at work. Dropping it does not stop it: [`Master::shutdown`] does.
pub struct Master {
    store: RunningStore,
    api: RunningApiServer,
    stop: CancellationToken,
    parts: Vec<JoinHandle<()>>,
}

impl Master {
    /// Starts all parts; returns once connections are accepted.
    ///
    /// # Errors
    /// An address, key or folder that cannot be used.
    pub async fn start(env: Env, config: MasterConfig, engine: Arc<dyn Engine>) -> Result<Self, MasterError> {
        let name = config.api.name.clone();
        let store = StoreServer::start(env.clone(), config.store, engine).await?;
        let api = ApiServer::start(env.clone(), config.api, store.kv()).await?;
        let stop = CancellationToken::new();
        let candidate = Candidate { env: env.clone(), name, stop: stop.clone(), election: config.election };
        let scheduler_client = component(&env, &config.masters, config.scheduler_tls, "kube-scheduler")?;
        let controllers_client = component(&env, &config.masters, config.controllers_tls, "kube-controller-manager")?;
        let (scheduler, controllers) = (config.scheduler, config.controllers);
        let parts = vec![
            candidate.stand("kube-scheduler", &store, scheduler_client, move |context| {
                keelstone_scheduler::run(context, scheduler.clone())
            }),
            candidate.stand("kube-controller-manager", &store, controllers_client, move |context| {
                keelstone_controllers::run(context, controllers.clone())
            }),
        ];
        Ok(Self { store, api, stop, parts })
    }

    pub fn store(&self) -> &RunningStore {
        &self.store
    }

    pub fn api(&self) -> &RunningApiServer {
        &self.api
    }

    /// Gives leaderships away, ends streams with a retryable error, flushes the state.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let ended = async {
            for part in self.parts {
                // A part that panicked has nothing left to stop.
                let _ = part.await;
            }
        };
        if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
            tracing::info!("a leading part did not end in time");
        }
        self.api.shutdown().await;
        self.store.shutdown().await;
    }
}

fn component(env: &Env, masters: &[String], tls: Option<ClientTls>, name: &str) -> std::io::Result<Client> {
    let mut options = TcpOptions::new(masters.to_vec());
    options.tls = tls;
    Ok(Client::tcp(env, options)?.named(name))
}

struct Candidate {
    env: Env,
    name: String,
    stop: CancellationToken,
    election: Election,
}

impl Candidate {
    /// Runs `work` whenever this master holds the lease of that name in kube-system.
    fn stand<W, F>(&self, lease: &str, store: &RunningStore, client: Client, work: W) -> JoinHandle<()>
    where
        W: FnMut(LeaderContext) -> F + Send + 'static,
        F: std::future::Future<Output = ()> + Send,
    {
        let identity = format!("{}_{}", self.name, self.env.random().uuid());
        let mut config = LeaderConfig::new("kube-system", lease, &identity);
        config.lease_s = self.election.lease_s;
        config.renew_deadline = self.election.renew_deadline;
        config.retry_period = self.election.retry_period;
        let raft = store.raft().clone();
        let stop = self.stop.clone();
        self.env.spawn(async move {
            let mut status = raft.status_watch();
            // A wait that fails means that the store is stopping.
            let _ = status.wait_for(|s| s.leader.is_some()).await;
            let leads_here = status.borrow().leader == Some(status.borrow().id);
            if !leads_here {
                tokio::time::sleep(AWAY_FROM_LEADER_PAUSE).await;
            }
            run_when_leader(&client, config, &stop, work).await;
        })
    }
}
