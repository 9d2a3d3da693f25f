//! Clusters of this store for tests, on loopback with folders of their own.

pub use crate::etcd;

use std::{sync::Arc, time::Duration};

use keelstone_engine::{MemEngine, MemOptions};
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_store_server::{InitialMember, RunningStore, StoreConfig, StoreServer};
use tempfile::TempDir;

/// Time that a started cluster has to elect a leader.
const ELECTION_MS_MAX: u64 = 15_000;

/// Running members; `None` for one that was stopped.
pub struct Cluster {
    pub members: Vec<Option<RunningStore>>,
    configs: Vec<StoreConfig>,
    dir: TempDir,
}

impl Cluster {
    pub async fn start(members: usize) -> Self {
        Self::start_with(members, |_| {}).await
    }

    /// `adjust` may change each member's configuration.
    pub async fn start_with(members: usize, adjust: impl Fn(&mut StoreConfig)) -> Self {
        let mut cluster = Self::prepare(members, adjust);
        for index in 0..members {
            cluster.restart(index).await;
        }
        cluster.wait_for_leader().await;
        cluster
    }

    /// Members that are not started yet.
    fn prepare(members: usize, adjust: impl Fn(&mut StoreConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let ports = etcd::free_ports(members);
        let initial: Vec<InitialMember> = (0..members)
            .map(|i| InitialMember { name: format!("m{i}"), peer_url: format!("http://127.0.0.1:{}", ports[i]) })
            .collect();
        let configs: Vec<StoreConfig> = (0..members)
            .map(|i| {
                let mut config = StoreConfig::new(&format!("m{i}"), initial.clone(), dir.path().join(format!("m{i}")));
                adjust(&mut config);
                config
            })
            .collect();
        Self { members: (0..members).map(|_| None).collect(), configs, dir }
    }

    /// Starts members on data that `restore` puts into their empty folders first.
    pub async fn start_restored(
        members: usize,
        restore: impl Fn(Env, StoreConfig, Arc<MemEngine>) -> futures::future::BoxFuture<'static, ()>,
    ) -> Self {
        let mut cluster = Self::prepare(members, |_| {});
        for index in 0..members {
            let engine = Arc::new(cluster.engine(index));
            restore(Env::os(), cluster.configs[index].clone(), engine).await;
        }
        for index in 0..members {
            cluster.restart(index).await;
        }
        cluster.wait_for_leader().await;
        cluster
    }

    fn engine(&self, index: usize) -> MemEngine {
        let dir = self.dir.path().join(format!("engine{index}"));
        MemEngine::open(Env::os(), dir, MemOptions::default()).unwrap()
    }

    /// Starts a stopped member on its data and its old client port.
    pub async fn restart(&mut self, index: usize) {
        let engine = self.engine(index);
        let env = Env::os();
        let config = &mut self.configs[index];
        let running = StoreServer::start(env, config.clone(), Arc::new(engine)).await.unwrap();
        config.listen_client = running.client_address().to_owned();
        self.members[index] = Some(running);
    }

    pub async fn stop(&mut self, index: usize) {
        self.members[index].take().unwrap().shutdown().await;
    }

    pub fn running(&self) -> impl Iterator<Item = &RunningStore> {
        self.members.iter().flatten()
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.running().map(|member| member.client_address().to_owned()).collect()
    }

    pub async fn wait_for_leader(&self) {
        for member in self.running() {
            let elected = tokio::time::timeout(Duration::from_millis(ELECTION_MS_MAX), member.wait_for_leader());
            elected.await.expect("a leader in time");
        }
    }

    /// Index of the leader, as its own status says. On a busy machine one may just have lost its office.
    pub async fn leader(&self) -> usize {
        let leads = |member: &Option<RunningStore>| member.as_ref().is_some_and(|m| m.status().is_leader());
        let found = async {
            loop {
                match self.members.iter().position(leads) {
                    Some(index) => return index,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(ELECTION_MS_MAX), found).await.expect("a leader in time")
    }

    pub async fn stop_all(mut self) {
        for member in self.members.iter_mut().filter_map(Option::take) {
            member.shutdown().await;
        }
    }
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}
