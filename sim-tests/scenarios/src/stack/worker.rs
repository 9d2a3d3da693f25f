use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use keelstone_agent::{
    constants::OBSERVE_EVERY_MS,
    runtime::{HollowMachine, HollowRuntime},
    Agent, AgentClock, AgentConfig, Capacity,
};
use keelstone_client::{Client, TcpOptions};
use keelstone_world::Host;

use super::{
    master::{api_addresses, client_tls, server_tls},
    AGENT_PORT,
};
use crate::simulation::Shared;

/// What each node has, in thousandths of a core.
pub const NODE_CPU_MILLIS: u64 = 1_000;

/// A node: its agent's life ends with its host's, its machine's does not.
#[derive(Clone)]
pub struct Worker {
    pub node: String,
    pub index: u16,
    pub machine: HollowMachine,
}

/// A host with the agents of some nodes.
#[derive(Clone)]
pub struct WorkerSetup {
    pub host: Host,
    pub address: IpAddr,
    pub masters: Vec<String>,
    pub workers: Vec<Worker>,
    /// Heartbeats come as seldom as Kubernetes' do.
    pub usual_periods: bool,
}

/// The software of a workers' host.
pub async fn serve(setup: WorkerSetup, shared: Shared) -> turmoil::Result {
    let mut agents = Vec::new();
    for worker in &setup.workers {
        let env = setup.host.env();
        let first = &setup.masters[usize::from(worker.index) % setup.masters.len()];
        let options = TcpOptions::new(api_addresses(&setup.masters, first))
            .tls(client_tls(&format!("system:node:{}", worker.node), &["system:nodes"]));
        let client = Client::tcp(&env, options)?.named("kubelet");
        let prefix = format!("10.88.{}", worker.index);
        let runtime = HollowRuntime::new(env.clone(), worker.machine.clone(), &prefix);
        agents.push(Agent::start(env, config(&setup, worker), client, Arc::new(runtime)).await?);
        shared.saw("agent_starts");
    }
    std::future::pending::<()>().await;
    drop(agents);
    Ok(())
}

fn config(setup: &WorkerSetup, worker: &Worker) -> AgentConfig {
    let node = &worker.node;
    let (status_period_s, lease_renew_period_s, lease_duration_s) =
        if setup.usual_periods { (10, 10, 40) } else { (3, 1, 6) };
    AgentConfig {
        node_name: node.clone(),
        address: setup.address.to_string(),
        port: AGENT_PORT + worker.index,
        labels: BTreeMap::from([("kubernetes.io/hostname".to_owned(), node.clone())]),
        root_dir: format!("agent/{node}").into(),
        pod_cidr: format!("10.88.{}.0/24", worker.index),
        cluster_dns: vec!["10.96.0.10".into()],
        cluster_domain: "cluster.local".into(),
        capacity: Capacity {
            cpu_millis: NODE_CPU_MILLIS,
            memory_bytes: 8 << 30,
            ephemeral_storage_bytes: 64 << 30,
            pods: keelstone_agent::constants::PODS_MAX,
        },
        status_period: Duration::from_secs(status_period_s),
        lease_renew_period: Duration::from_secs(lease_renew_period_s),
        lease_duration_s,
        server_tls: Some(server_tls(&format!("system:node:{node}"), &["system:nodes"], &["http/1.1"])),
        clock: AgentClock { observe_every: Duration::from_millis(OBSERVE_EVERY_MS) },
    }
}
