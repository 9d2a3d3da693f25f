use std::sync::{Arc, Mutex, PoisonError};

use keelstone_apiserver::{
    perturb::{Plan, Report},
    ApiServerConfig,
};
use keelstone_client::TcpOptions;
use keelstone_controllers::ControllersConfig;
use keelstone_engine::{MemEngine, MemOptions};
use keelstone_env::{ClientTls, ServerTls};
use keelstone_master::{Election, Master, MasterConfig};
use keelstone_scheduler::SchedulerConfig;
use keelstone_store_server::{InitialMember, StoreConfig};
use keelstone_world::{simulated_certificate, Host};
use tokio::time::sleep;

use crate::world::LOOK_INTERVAL;

/// The master's host.
pub const MASTER: &str = "master";
const API_ADDRESS: &str = "master:6443";
/// Signs tokens in this simulation, and nothing else anywhere.
const TOKEN_KEY: &str = include_str!("token_key.pem");

/// What the API server noted of the operator's writes.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Report>>);

impl Written {
    /// The newest state.
    pub fn report(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A whole master (store, API server, scheduler, controllers) whose API server follows `plan`.
///
/// # Errors
/// What a master cannot start with.
pub async fn serve(host: Host, plan: Plan, written: Written) -> turmoil::Result {
    let engine = MemEngine::open(host.env(), "/data/state", MemOptions::default())?;
    let master = Master::start(host.env(), config(plan), Arc::new(engine)).await?;
    loop {
        sleep(LOOK_INTERVAL).await;
        let report = master.api().perturbation().unwrap_or_default();
        *written.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

/// How `user` reaches the master, with all rights.
pub fn reached_by(user: &str) -> TcpOptions {
    TcpOptions::new(vec![API_ADDRESS.into()]).tls(client_tls(user, &["system:masters"]))
}

fn config(plan: Plan) -> MasterConfig {
    let member = InitialMember { name: MASTER.into(), peer_url: format!("http://{MASTER}:2380") };
    let mut store = StoreConfig::new(MASTER, vec![member], "/data/store");
    store.listen_client = format!("{MASTER}:2379");
    let mut api = ApiServerConfig::new(MASTER, TOKEN_KEY);
    api.listen = Some(API_ADDRESS.into());
    api.tls = Some(ServerTls {
        certificate: simulated_certificate("kube-apiserver", &[]),
        client_ca: Some("the cluster's authority".into()),
        alpn: vec!["h2".into(), "http/1.1".into()],
        ..ServerTls::default()
    });
    api.perturbation = Some(plan);
    MasterConfig {
        store,
        api,
        masters: vec![API_ADDRESS.into()],
        scheduler_tls: Some(client_tls("system:kube-scheduler", &[])),
        controllers_tls: Some(client_tls("system:kube-controller-manager", &[])),
        election: Election::default(),
        scheduler: SchedulerConfig::default(),
        controllers: ControllersConfig { root_ca: "the cluster's authority".into(), ..ControllersConfig::default() },
    }
}

fn client_tls(common_name: &str, organizations: &[&str]) -> ClientTls {
    let certificate = simulated_certificate(common_name, organizations);
    ClientTls { identity: Some((certificate, String::new())), ..ClientTls::default() }
}
