//! Three whole masters (store, API server, scheduler, controllers), three nodes on two hosts, and users: of
//! ConfigMaps, whose history is checked for linearizability (2), durability (1, 8) and watches (5, 9), and of a
//! Deployment with a Service, which is scaled, updated, and robbed of pods. Checked besides: equal state (4),
//! one acting leader (12), replicas (14) and no node overcommitted (15) by the store's own log, and that after
//! the faults every pod ends where it should.

mod configs;
mod garbage;
mod master;
mod namespaces;
mod node_loss;
mod restarts;
mod settle;
mod truth;
mod web;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_agent::runtime::HollowMachine;
use keelstone_checkers::{
    collection, durability, eviction, leadership, linearizability, objects, overcommit, replicas, watch, History,
    Violation,
};
use keelstone_client::{Client, TcpOptions};
use keelstone_env::{Env, Random};
use keelstone_store_client::{GrpcKv, GrpcKvOptions};
use keelstone_world::SeededRandom;

use crate::{
    constants::*,
    effort::Effort,
    faults::{self, Nemesis},
    leaders::Leaders,
    log::Log,
    member::Members,
    plan::Plan,
    simulation::{self, Shared, Stage},
    Plant, Report,
};
use worker::Worker;

const CLIENT: &str = "client";
const MASTERS: usize = 3;
const API_PORT: u16 = 6443;
const AGENT_PORT: u16 = 10_250;
const NODES_MAX: u64 = 100;
/// Users of ConfigMaps.
const USERS: u32 = 3;
/// The load of this scenario goes on for so many times as long: all parts have to start first.
const LOAD_TIME_FACTOR: u32 = 2;
/// The store is compacted no more often than this.
const COMPACT_PAUSE_MIN: Duration = Duration::from_secs(1);
/// A node that is silent for so long is not ready.
const NODE_GRACE: Duration = Duration::from_secs(5);
/// Pods stay on a node that is not ready for so long.
const POD_TOLERATION_S: i64 = 3;
/// The same by the fastest timer.
const POD_STAYS_MIN: Duration = Duration::from_millis(2_900);

/// What runs on the client host, and what it leaves for the checks.
#[derive(Clone)]
pub struct Scenario {
    plan: Arc<Plan>,
    env: Env,
    masters: Vec<String>,
    workers: Vec<Worker>,
    shared: Shared,
    effort: Effort,
    history: Arc<Mutex<History>>,
    followed: configs::Followed,
    log: Log,
}

/// Whom faults may fall on.
pub fn fault_hosts() -> faults::Hosts {
    faults::Hosts {
        masters: (1..=MASTERS).map(|i| format!("m{i}")).collect(),
        workers: ["w1", "w2"].map(str::to_owned).to_vec(),
        clients: vec![CLIENT.to_owned()],
        lasting_damage: false,
        membership: false,
    }
}

/// The names of all workloads.
pub fn workloads() -> Vec<&'static str> {
    vec!["configs", "web", "garbage", "namespaces"]
}

pub fn run(plan: &Arc<Plan>, shared: &Shared, leaders: &Leaders, report: &mut Report) -> Result<(), Violation> {
    let seed = plan.seed;
    let faults::Hosts { masters, workers: worker_hosts, .. } = fault_hosts();
    let hosts = simulation::hosts(seed, masters.iter().chain(&worker_hosts).cloned().chain([CLIENT.to_owned()]));
    let mut sim = simulation::build(seed);
    let members = Members::default();
    for name in &masters {
        let address = sim.lookup(name.as_str());
        let setup = master::MasterSetup {
            host: hosts[name].clone(),
            address,
            names: masters.clone(),
            knobs: plan.knobs.clone(),
        };
        let (members, shared) = (members.clone(), shared.clone());
        sim.host(name.as_str(), move || master::serve(setup.clone(), members.clone(), shared.clone()));
    }
    let workers: Vec<Worker> = (1..=plan.knobs.nodes.clamp(1, NODES_MAX) as u16)
        .map(|index| Worker { node: format!("node-{index}"), index, machine: HollowMachine::default() })
        .collect();
    let (first, second) = workers.split_at(workers.len().div_ceil(worker_hosts.len()));
    let placed: BTreeMap<_, _> = worker_hosts.into_iter().zip([first.to_vec(), second.to_vec()]).collect();
    for (name, workers) in &placed {
        let address = sim.lookup(name.as_str());
        let (host, workers) = (hosts[name].clone(), workers.clone());
        let (masters, usual_periods) = (masters.clone(), plan.knobs.usual_periods > 0);
        let setup = worker::WorkerSetup { host, address, masters, workers, usual_periods };
        let shared = shared.clone();
        sim.host(name.as_str(), move || worker::serve(setup.clone(), shared.clone()));
    }
    let scenario = Scenario {
        plan: Arc::clone(plan),
        env: hosts[CLIENT].env(),
        masters: masters.clone(),
        workers,
        shared: shared.clone(),
        effort: Effort::new(shared, plan, LOAD_TIME_FACTOR),
        history: Arc::default(),
        followed: configs::Followed::default(),
        log: Log::new("/registry/", "/registry0"),
    };
    sim.client(CLIENT, scenario.clone().run());
    let mut nemesis = Nemesis::new(seed, hosts, members.clone(), plan.faults.clone()).on_power_loss(move |host| {
        placed.get(host).into_iter().flatten().for_each(|worker| worker.machine.power_off());
    });
    let driven = simulation::drive(&mut sim, &mut nemesis, shared, |now| members.observe(now));
    report.faults.clone_from(nemesis.fired());
    report.simulated_s = sim.elapsed().as_secs_f64();
    [report.known, report.failed, report.unknown] = scenario.effort.counts();
    report.operations = report.known + report.failed + report.unknown;
    scenario.check(driven, &members, &leaders.acting(nemesis.crashes(), sim.elapsed()))
}

impl Scenario {
    /// What can be said once all has ended.
    fn check(
        &self,
        driven: Result<(), Violation>,
        members: &Members,
        acting: &[leadership::Acting],
    ) -> Result<(), Violation> {
        let history = self.history.lock().expect("the tasks have ended").clone();
        // A broken history says more than the end of a host that it led to.
        linearizability::check(&history)?;
        leadership::check_terms(acting)?;
        // So do these, and they hold of each beginning of the log.
        let log = self.log.events();
        let changes = objects::changes(&log);
        replicas::check(&changes)?;
        overcommit::check(&changes)?;
        eviction::check(&changes, |revision| members.time_of(revision), POD_STAYS_MIN)?;
        collection::check(&changes, |name| name.starts_with(garbage::DEPENDENTS))?;
        driven?;
        acting.iter().for_each(|_| self.shared.saw("leaders_acted"));
        let configs = truth::configs(&log);
        durability::check(&history, &configs)?;
        self.followed.observed().iter().try_for_each(|observed| watch::check(observed, &configs))
    }

    async fn run(self) -> turmoil::Result {
        if let Err(violation) = self.load_and_settle().await {
            self.shared.violated(violation);
        }
        Ok(())
    }

    async fn load_and_settle(&self) -> Result<(), Violation> {
        settle::wait_until_served(self).await?;
        let skips = self.plan.plant == Some(Plant::SkippedWatch);
        tokio::spawn(configs::follow(self.user(2), self.followed.clone(), self.shared.clone(), skips));
        let runs = |name: &str| self.plan.workloads.iter().any(|drawn| drawn == name);
        if runs("configs") {
            tokio::spawn(restarts::run(self.clone()));
        }
        let compactor = (self.plan.knobs.compact_ms > 0).then(|| tokio::spawn(self.clone().compact_now_and_then()));
        let mut tasks: Vec<_> = (0..if runs("configs") { USERS } else { 0 })
            .map(|id| {
                let random = self.random(&format!("user {id}"));
                let client = self.user(random.below(MASTERS as u64) as usize);
                tokio::spawn(configs::run(id, client, random, self.history.clone(), self.effort.clone()))
            })
            .collect();
        // The end state is checked by its pods: this one always runs.
        let knobs = &self.plan.knobs;
        tasks.push(tokio::spawn(web::run(self.user(1), self.random("web"), knobs.clone(), self.effort.clone())));
        if runs("garbage") {
            tasks.push(tokio::spawn(garbage::run(self.user(0), self.random("garbage"), self.effort.clone())));
        }
        if runs("namespaces") {
            tasks.push(tokio::spawn(namespaces::run(self.user(2), self.random("namespaces"), self.effort.clone())));
        }
        for task in tasks {
            task.await.map_err(|error| Violation::new("panic", error.to_string()))?;
        }
        self.shared.set_stage(Stage::LoadEnded);
        if let Some(compactor) = compactor {
            compactor.await.map_err(|error| Violation::new("panic", error.to_string()))?;
        }
        let settled = settle::settle(self).await;
        if settled.is_err() {
            // What led to it may be seen there; what cannot be read is left out.
            let _ = self.log.read(&self.kv()).await;
        }
        settled
    }

    /// As the API servers do each few minutes.
    async fn compact_now_and_then(self) {
        let (kv, random) = (self.kv(), self.random("compactor"));
        let pause = Duration::from_millis(self.plan.knobs.compact_ms).max(COMPACT_PAUSE_MIN);
        while self.shared.stage() == Stage::Load {
            tokio::time::sleep(pause).await;
            self.log.compact(&kv, &self.shared, random.below(100)).await;
        }
    }

    fn random(&self, name: &str) -> SeededRandom {
        SeededRandom::derive(self.plan.seed, name)
    }

    /// A cluster administrator's client of all masters, this one first.
    fn user(&self, first: usize) -> Client {
        self.client(master::api_addresses(&self.masters, &self.masters[first % MASTERS]))
    }

    fn client(&self, addresses: Vec<String>) -> Client {
        let options = TcpOptions::new(addresses).tls(master::client_tls("admin", &["system:masters"]));
        Client::tcp(&self.env, options).expect("valid addresses").named("user")
    }

    /// A client of the store itself.
    fn kv(&self) -> GrpcKv {
        let endpoints = self.masters.iter().map(|name| format!("{name}:{STORE_CLIENT_PORT}")).collect();
        let tls = Some(master::client_tls("checker", &[]));
        GrpcKv::new(&self.env, GrpcKvOptions { tls, ..GrpcKvOptions::new(endpoints) }).expect("valid endpoints")
    }
}
