use std::{net::IpAddr, sync::Arc, time::Duration};

use keelstone_access::admission::AdmissionConfig;
use keelstone_apiserver::ApiServerConfig;
use keelstone_controllers::{node_lifecycle::NodeLifecycleConfig, ControllersConfig};
use keelstone_engine::{MemEngine, MemOptions};
use keelstone_env::{ClientTls, ServerTls};
use keelstone_master::{Election, Master, MasterConfig};
use keelstone_scheduler::SchedulerConfig;
use keelstone_world::{simulated_certificate, Host};

use super::{API_PORT, NODE_GRACE, POD_TOLERATION_S};
use crate::{
    constants::TICK,
    member::{self, Members},
    plan::Knobs,
    simulation::Shared,
};

/// Signs service account tokens in the simulation, and nothing else anywhere. ECDSA as in RFC 6979 draws no
/// randomness.
const SERVICE_ACCOUNT_KEY: &str = include_str!("service_account_key.pem");
const ELECTION: Election =
    Election { lease_s: 4, renew_deadline: Duration::from_millis(2_500), retry_period: Duration::from_millis(500) };

/// A master's host and its place among the others.
#[derive(Clone)]
pub struct MasterSetup {
    pub host: Host,
    pub address: IpAddr,
    pub names: Vec<String>,
    pub knobs: Knobs,
}

/// The software of a master's host.
pub async fn serve(setup: MasterSetup, members: Members, shared: Shared) -> turmoil::Result {
    let timing = setup.host.clone();
    tokio::spawn(async move { timing.keep_time(TICK).await });
    let ended = live(&setup, &members, &shared).await;
    let error = ended.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string());
    shared.exited(&setup.host.name, &error);
    std::future::pending().await
}

async fn live(setup: &MasterSetup, members: &Members, shared: &Shared) -> turmoil::Result {
    let env = setup.host.env();
    let options = MemOptions { self_flush_one_in: setup.knobs.self_flush_one_in };
    let engine = MemEngine::open(env.clone(), "/data/state", options)?;
    let master = Master::start(env, config(setup), Arc::new(engine)).await?;
    members.follow(&setup.host.name, master.store(), shared).await
}

/// How one part shows itself to others over (simulated) TLS.
pub fn client_tls(common_name: &str, organizations: &[&str]) -> ClientTls {
    let certificate = simulated_certificate(common_name, organizations);
    ClientTls { identity: Some((certificate, String::new())), ..ClientTls::default() }
}

pub fn server_tls(common_name: &str, organizations: &[&str], alpn: &[&str]) -> ServerTls {
    ServerTls {
        certificate: simulated_certificate(common_name, organizations),
        client_ca: Some("the cluster's authority".into()),
        alpn: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
        ..ServerTls::default()
    }
}

fn config(setup: &MasterSetup) -> MasterConfig {
    let name = &setup.host.name;
    let usual_periods = setup.knobs.usual_periods > 0;
    let mut store = member::config(name, &setup.names, &setup.knobs);
    store.client_tls = Some(ServerTls { client_certificate_required: true, ..server_tls(name, &[], &[]) });
    let mut api = ApiServerConfig::new(name, SERVICE_ACCOUNT_KEY);
    api.listen = Some(format!("{name}:{API_PORT}"));
    api.advertise_host = setup.address.to_string();
    api.tls = Some(server_tls("kube-apiserver", &[], &["h2", "http/1.1"]));
    api.node_client = Some(client_tls("kube-apiserver-kubelet-client", &["system:masters"]));
    api.admission =
        AdmissionConfig { not_ready_toleration_s: POD_TOLERATION_S, unreachable_toleration_s: POD_TOLERATION_S };
    MasterConfig {
        store,
        api,
        masters: api_addresses(&setup.names, if setup.knobs.far_api > 0 { after(&setup.names, name) } else { name }),
        scheduler_tls: Some(client_tls("system:kube-scheduler", &[])),
        controllers_tls: Some(client_tls("system:kube-controller-manager", &[])),
        election: if usual_periods { Election::default() } else { ELECTION },
        scheduler: SchedulerConfig::default(),
        controllers: ControllersConfig {
            node_lifecycle: if usual_periods { NodeLifecycleConfig::default() } else { node_lifecycle() },
            root_ca: "the cluster's authority".into(),
            ..ControllersConfig::default()
        },
    }
}

fn node_lifecycle() -> NodeLifecycleConfig {
    NodeLifecycleConfig {
        monitor_period: Duration::from_secs(1),
        grace_period: NODE_GRACE,
        startup_grace_period: 2 * NODE_GRACE,
        ..NodeLifecycleConfig::default()
    }
}

/// The master after `name`, the first after the last.
fn after<'a>(names: &'a [String], name: &'a str) -> &'a str {
    let next = names.iter().position(|other| other == name).map_or(0, |at| at + 1);
    names.get(next).or(names.first()).map_or(name, String::as_str)
}

/// The API addresses of all masters, `first`'s at the beginning.
pub fn api_addresses(names: &[String], first: &str) -> Vec<String> {
    let others = names.iter().filter(|name| *name != first);
    std::iter::once(first).chain(others.map(String::as_str)).map(|name| format!("{name}:{API_PORT}")).collect()
}
