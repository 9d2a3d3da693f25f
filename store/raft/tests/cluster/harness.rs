//! Members of a cluster in one process, each on its own runtime, over loopback TCP and real files.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use keelstone_engine::{MemEngine, MemOptions};
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Mvcc, MvccOptions, Op, Response};
use keelstone_raft::{Limits, MemberChange, MemberInfo, RaftConfig, RaftError, RaftNode};
use tokio::runtime::Runtime;

pub struct Member {
    config: RaftConfig,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    node: RaftNode,
    mvcc: Arc<Mvcc>,
}

impl Member {
    pub fn id(&self) -> u64 {
        self.config.id
    }

    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub fn node(&self) -> RaftNode {
        self.running.as_ref().expect("the member is up").node.clone()
    }

    pub fn mvcc(&self) -> Arc<Mvcc> {
        Arc::clone(&self.running.as_ref().expect("the member is up").mvcc)
    }

    pub fn wal_dir(&self) -> PathBuf {
        self.config.data_dir.join("wal")
    }

    /// Ends everything at once, as a crash of the process does.
    pub fn crash(&mut self) {
        if let Some(Running { runtime, node, mvcc }) = self.running.take() {
            drop((node, mvcc));
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }

    pub fn config_mut(&mut self) -> &mut RaftConfig {
        &mut self.config
    }

    pub fn start(&mut self) {
        self.try_start().unwrap();
    }

    pub fn try_start(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = self.config.clone();
        let started: Result<_, RaftError> = runtime.block_on(async move {
            let env = Env::os();
            let listener = env.net().bind(&config.members[&config.id].peer_address).await.unwrap();
            let engine = MemEngine::open(env.clone(), config.data_dir.join("state"), MemOptions::default()).unwrap();
            let mvcc = Arc::new(Mvcc::open(Arc::new(engine), MvccOptions::default()).unwrap());
            let node = RaftNode::start(env, config, Arc::clone(&mvcc)).await?;
            let server = tonic::transport::Server::builder().add_service(node.peer_service());
            tokio::spawn(server.serve_with_incoming(keelstone_env::incoming(listener, None)));
            Ok((node, mvcc))
        });
        let (node, mvcc) = started.map_err(|error| error.to_string())?;
        self.running = Some(Running { runtime, node, mvcc });
        Ok(())
    }
}

pub struct Cluster {
    pub members: Vec<Member>,
    runtime: Runtime,
    dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.crash();
        }
    }
}

impl Cluster {
    pub fn start(size: u64, limits: Limits) -> Self {
        Self::start_at(size, limits, keelstone_raft::constants::FEATURE_LEVEL)
    }

    /// Members of a release that can do `level`.
    pub fn start_at(size: u64, limits: Limits, level: u32) -> Self {
        // Only the first of the process counts; RUST_LOG chooses.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listeners: Vec<_> =
            (0..size).map(|_| runtime.block_on(Env::os().net().bind("127.0.0.1:0")).unwrap().address()).collect();
        let members: BTreeMap<u64, MemberInfo> = (1..)
            .zip(&listeners)
            .map(|(id, address)| {
                let name = format!("m{id}");
                (id, MemberInfo { name, peer_address: address.clone(), ..MemberInfo::default() })
            })
            .collect();
        let members = members.keys().map(|id| {
            let mut config = RaftConfig::new(*id, 7, dir.path().join(format!("m{id}")), members.clone());
            config.limits = limits;
            config.level = level;
            config.timing.request_max = Duration::from_secs(3);
            Member { config, running: None }
        });
        let mut cluster = Self { members: members.collect(), runtime, dir };
        for member in &mut cluster.members {
            member.start();
        }
        cluster
    }

    /// Starts one more member, which waits to be added; returns its id.
    pub fn add_member(&mut self) -> u64 {
        let address = self.runtime.block_on(Env::os().net().bind("127.0.0.1:0")).unwrap().address();
        let id = self.members.len() as u64 + 1;
        let mut config = self.members[0].config.clone();
        let info = MemberInfo { name: format!("m{id}"), peer_address: address, ..MemberInfo::default() };
        config.members.insert(id, info);
        config.id = id;
        config.bootstrap = false;
        config.data_dir = self.dir.path().join(format!("m{id}"));
        let mut member = Member { config, running: None };
        member.start();
        self.members.push(member);
        id
    }

    /// Adds a member by etcd's rules, not started yet; returns its id and where it is to listen.
    pub fn add(&mut self, through: u64, learner: bool) -> (u64, String) {
        let peer_address = self.runtime.block_on(Env::os().net().bind("127.0.0.1:0")).unwrap().address();
        let peer_urls = vec![format!("http://{peer_address}")];
        let node = self.member(through).node();
        let add = MemberChange::Add { peer_urls, peer_address: peer_address.clone(), learner };
        (self.run(node.change_members(add)).unwrap().id, peer_address)
    }

    /// Starts a member that was added.
    pub fn start_added(&mut self, id: u64, peer_address: String) {
        let mut config = self.members[0].config.clone();
        let info = MemberInfo { peer_address, ..MemberInfo::default() };
        (config.id, config.name, config.bootstrap) = (id, format!("m{id:x}"), false);
        config.members.insert(id, info);
        config.data_dir = self.dir.path().join(format!("m{id:x}"));
        let mut member = Member { config, running: None };
        member.start();
        self.members.push(member);
    }

    /// Adds a member and starts it; returns its id.
    pub fn join(&mut self, through: u64) -> u64 {
        let (id, peer_address) = self.add(through, false);
        self.start_added(id, peer_address);
        id
    }

    /// Makes a member that is down the only one of a new cluster.
    pub fn recover(&mut self, id: u64) -> keelstone_raft::Recovery {
        let config = self.member(id).config.clone();
        let recovered = self.run(async move {
            let env = Env::os();
            let engine = MemEngine::open(env.clone(), config.data_dir.join("state"), MemOptions::default()).unwrap();
            let mvcc = Mvcc::open(Arc::new(engine), MvccOptions::default()).unwrap();
            let planned = keelstone_raft::plan_recovery(&env, &config.data_dir, &mvcc).await.unwrap();
            let recovered = keelstone_raft::recover(&env, &config.data_dir, &mvcc).await.unwrap();
            assert_eq!(planned.last_index, recovered.last_index);
            let owner = keelstone_raft::DataOwner::read(&env, &config.data_dir).unwrap().unwrap();
            (recovered, owner)
        });
        self.member(id).config.cluster_id = recovered.1.cluster_id;
        recovered.0
    }

    /// All that a member had is gone.
    pub fn wipe(&mut self, id: u64) {
        let dir = self.member(id).config.data_dir.clone();
        Env::os().disk().remove_dir_all(&dir).unwrap();
    }

    pub fn info(&self, id: u64) -> MemberInfo {
        self.members.iter().find(|member| member.id() == id).unwrap().config.members[&id].clone()
    }

    pub fn run<T>(&self, future: impl std::future::Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn member(&mut self, id: u64) -> &mut Member {
        self.members.iter_mut().find(|member| member.id() == id).unwrap()
    }

    pub fn up(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_up())
    }

    /// Waits until all members that are up agree on a leader that is up; returns its id.
    pub fn leader(&self) -> u64 {
        let mut leader = None;
        eventually("a leader that all agree on", || {
            let statuses: Vec<_> = self.up().map(|member| member.node().status()).collect();
            leader = statuses[0].leader;
            let agreed = statuses.iter().all(|status| status.leader == leader && status.term == statuses[0].term);
            agreed && leader.is_some_and(|id| self.up().any(|member| member.id() == id))
        });
        leader.unwrap()
    }

    pub fn follower(&self) -> u64 {
        let leader = self.leader();
        self.up().map(Member::id).find(|id| *id != leader).unwrap()
    }

    /// Writes through one member.
    pub fn put(&self, through: u64, key: &str, value: &str) -> Result<i64, RaftError> {
        let node = self.members.iter().find(|member| member.id() == through).unwrap().node();
        let request =
            pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        match self.run(node.propose(Op::Put(request)))? {
            Response::Put(response) => Ok(response.header.unwrap().revision),
            other => panic!("a put was answered with {other:?}"),
        }
    }

    /// Writes through one member, again if a change of leader came in between: a put can be repeated.
    pub fn put_surely(&self, through: u64, key: &str, value: &str) -> i64 {
        for _ in 0..10 {
            match self.put(through, key, value) {
                Ok(revision) => return revision,
                Err(error @ RaftError::Api(_)) => panic!("{error}"),
                Err(error) => println!("put {key} through {through}: {error}"),
            }
        }
        panic!("{key} could not be put through {through}");
    }

    /// Reads linearizably on one member.
    pub fn get(&self, on: u64, key: &str) -> Result<Option<String>, RaftError> {
        let member = self.members.iter().find(|member| member.id() == on).unwrap();
        self.run(member.node().read_index())?;
        Ok(local_get(&member.mvcc(), key))
    }

    /// Waits until all members that are up have applied the same and are equal.
    pub fn converge(&self) {
        eventually("members become equal", || {
            let hashes: Vec<_> = self.up().map(|member| member.mvcc().state_hash()).collect();
            hashes.windows(2).all(|pair| pair[0] == pair[1])
        });
    }
}

pub fn local_get(mvcc: &Mvcc, key: &str) -> Option<String> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let found = mvcc.range(&request).unwrap().kvs.into_iter().next()?;
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = tokio::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "this did not come true in time: {what}");
        pause(Duration::from_millis(10));
    }
}

pub fn pause(duration: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::sleep(duration).await });
}
