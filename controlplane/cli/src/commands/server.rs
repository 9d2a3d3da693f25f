use std::{path::PathBuf, time::Duration};

use clap::Args;
use keelstone_access::admission::AdmissionConfig;
use keelstone_apiserver::{ApiServerConfig, ServiceCidr};
use keelstone_controllers::{node_lifecycle::NodeLifecycleConfig, ControllersConfig};
use keelstone_env::Env;
use keelstone_master::{Election, Master, MasterConfig};
use keelstone_scheduler::SchedulerConfig;
use keelstone_store_server::{InitialMember, PeerTls, StoreConfig};

use super::{asked_to_stop, perturbation, stop_within, store::open_engine, store_ended, PkiFolder};
use crate::Failure;

#[derive(Args)]
pub struct ServerArguments {
    /// This master's name; one of --initial-cluster.
    #[arg(long)]
    name: String,
    #[arg(long)]
    data_dir: PathBuf,
    /// ca.crt, store-ca.crt, sa.key, NAME.crt/.key, NAME-store.crt/.key, kubelet-client.crt/.key, scheduler.crt/.key, controller-manager.crt/.key.
    #[arg(long)]
    pki_dir: PathBuf,
    /// Where the API is served, as host:port.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: String,
    /// The address that clients are told; the one of --listen if it is not given.
    #[arg(long)]
    advertise_address: Option<String>,
    /// Where etcd clients are served, as host:port.
    #[arg(long, default_value = "127.0.0.1:2379")]
    listen_store_client: String,
    /// The members of the store with their peer addresses: name=host:port,...
    #[arg(long)]
    initial_cluster: String,
    /// All masters' API servers, host:port,...; the scheduler and the controllers fail over among them.
    #[arg(long, value_delimiter = ',')]
    masters: Vec<String>,
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cluster_ip_range: String,
    /// How long a node may be silent before it counts as NotReady, in seconds.
    #[arg(long, default_value_t = 50)]
    node_monitor_grace_period_s: u64,
    /// How often nodes are looked at, in seconds.
    #[arg(long, default_value_t = 5)]
    node_monitor_period_s: u64,
    /// How long pods stay on a node that is not ready or unreachable, unless they say otherwise, in seconds.
    #[arg(long, default_value_t = 300)]
    default_toleration_s: u64,
    #[arg(long, default_value_t = 15)]
    leader_elect_lease_s: u32,
    #[arg(long, default_value_t = 10)]
    leader_elect_renew_deadline_s: u64,
    #[arg(long, default_value_t = 2)]
    leader_elect_retry_s: u64,
    /// A plan of whose API requests are disturbed on purpose (docs/verification.md).
    #[arg(long)]
    perturbation: Option<PathBuf>,
}

pub async fn run(arguments: ServerArguments) -> Result<(), Failure> {
    let config = config(&arguments)?;
    let engine = open_engine(&arguments.data_dir)?;
    let master = Master::start(Env::os(), config, engine).await?;
    tracing::info!(api = master.api().address(), store = %master.store().client_address(), "master serves");
    let ended = tokio::select! {
        biased;
        stopped = asked_to_stop() => stopped,
        ended = store_ended(master.store()) => ended,
    };
    stop_within(master.shutdown()).await;
    ended
}

fn config(arguments: &ServerArguments) -> Result<MasterConfig, Failure> {
    let pki = PkiFolder(&arguments.pki_dir);
    let mut api = ApiServerConfig::new(&arguments.name, &pki.text("sa.key")?);
    let (host, _) = crate::probe::split(&arguments.listen).map_err(|e| Failure::Usage(e.to_string()))?;
    api.advertise_host = arguments.advertise_address.clone().unwrap_or_else(|| host.to_owned());
    api.listen = Some(arguments.listen.clone());
    api.tls = Some(pki.server(&arguments.name, "ca", false)?);
    api.node_client = Some(pki.client("kubelet-client", "ca")?);
    api.service_cidr = ServiceCidr::parse(&arguments.service_cluster_ip_range).map_err(Failure::Usage)?;
    let toleration_s = i64::try_from(arguments.default_toleration_s).unwrap_or(i64::MAX);
    api.admission = AdmissionConfig { not_ready_toleration_s: toleration_s, unreachable_toleration_s: toleration_s };
    api.perturbation = perturbation(arguments.perturbation.as_deref())?;
    let mut masters = vec![arguments.listen.clone()];
    masters.extend(arguments.masters.iter().filter(|m| **m != arguments.listen).cloned());
    Ok(MasterConfig {
        store: store_config(arguments, &pki)?,
        api,
        masters,
        scheduler_tls: Some(pki.client("scheduler", "ca")?),
        controllers_tls: Some(pki.client("controller-manager", "ca")?),
        election: Election {
            lease_s: arguments.leader_elect_lease_s,
            renew_deadline: Duration::from_secs(arguments.leader_elect_renew_deadline_s),
            retry_period: Duration::from_secs(arguments.leader_elect_retry_s),
        },
        scheduler: SchedulerConfig::default(),
        controllers: ControllersConfig {
            node_lifecycle: NodeLifecycleConfig {
                monitor_period: Duration::from_secs(arguments.node_monitor_period_s.max(1)),
                grace_period: Duration::from_secs(arguments.node_monitor_grace_period_s),
                ..NodeLifecycleConfig::default()
            },
            root_ca: pki.text("ca.crt")?,
            ..ControllersConfig::default()
        },
    })
}

fn store_config(arguments: &ServerArguments, pki: &PkiFolder<'_>) -> Result<StoreConfig, Failure> {
    let with_scheme: Vec<String> = arguments
        .initial_cluster
        .split(',')
        .map(|member| match member.split_once('=') {
            Some((name, address)) if !address.contains("://") => format!("{name}=https://{address}"),
            _ => member.to_owned(),
        })
        .collect();
    let members = InitialMember::parse_list(&with_scheme.join(",")).map_err(|e| Failure::Usage(e.to_string()))?;
    if !members.iter().any(|m| m.name == arguments.name) {
        return Err(Failure::Usage(format!("--initial-cluster does not name {}", arguments.name)));
    }
    let mut store = StoreConfig::new(&arguments.name, members, arguments.data_dir.join("store"));
    store.listen_client.clone_from(&arguments.listen_store_client);
    // The store has an authority of its own: a certificate of the API does not open it.
    let own = format!("{}-store", arguments.name);
    store.client_tls = Some(pki.server(&own, "store-ca", true)?);
    store.peer_tls =
        Some(PeerTls { server: pki.server(&own, "store-ca", true)?, client: pki.client(&own, "store-ca")? });
    Ok(store)
}
