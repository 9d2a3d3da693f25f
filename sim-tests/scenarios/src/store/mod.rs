//! Three members of the store, clients that read, write, compare-and-set and delete, and watchers that
//! resume. Checked: durability (1), linearizability (2), equal state (4), watches (5), and that all members
//! agree once the faults are over.

mod load;
mod serve;
mod settle;
mod watcher;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_checkers::{durability, linearizability, state_hash::StateHashes, watch, History, Violation};
use keelstone_env::{Env, Random};
use keelstone_store_client::{GrpcKv, GrpcKvOptions};
use keelstone_world::SeededRandom;

use crate::{
    constants::STORE_CLIENT_PORT,
    faults::Nemesis,
    log::Log,
    member::{Knobs, Members},
    simulation::{self, Shared, Stage},
    Options, Plant, Report,
};
use load::{KEY_END, KEY_FIRST};
use watcher::Watched;

const CLIENT: &str = "client";
const MEMBERS: usize = 3;
const CLIENTS: u32 = 4;
const WATCHERS: u32 = 3;
/// How often seeds that compact do so.
const COMPACT_INTERVAL: Duration = Duration::from_secs(2);

/// What the tasks of the client host leave for the checks.
#[derive(Clone)]
pub struct Recorded {
    pub history: Arc<Mutex<History>>,
    pub watched: Watched,
    pub log: Log,
}

pub fn run(options: &Options, shared: &Shared, report: &mut Report) -> Result<(), Violation> {
    let names: Vec<String> = (1..=MEMBERS).map(|i| format!("m{i}")).collect();
    let hosts = simulation::hosts(options.seed, names.iter().cloned().chain([CLIENT.to_owned()]));
    let mut sim = simulation::build(options.seed);
    let members = Members::default();
    let knobs = Knobs::draw(&SeededRandom::derive(options.seed, "knobs"));
    for name in &names {
        let host = hosts[name].clone();
        let (names, members, shared) = (names.clone(), members.clone(), shared.clone());
        sim.host(name.as_str(), move || {
            serve::serve(host.clone(), names.clone(), knobs, members.clone(), shared.clone())
        });
    }
    let log = Log::new(KEY_FIRST, KEY_END);
    let recorded = Recorded { history: Arc::default(), watched: Watched::default(), log };
    let scenario = Scenario {
        options: options.clone(),
        env: hosts[CLIENT].env(),
        names: names.clone(),
        members: members.clone(),
        shared: shared.clone(),
        recorded: recorded.clone(),
        compacts: knobs.compacts,
    };
    sim.client(CLIENT, scenario.run());
    let mut nemesis = Nemesis::new(options.seed, hosts, names, vec![], options.plant);
    let mut hashes = StateHashes::default();
    let driven = simulation::drive(&mut sim, &mut nemesis, shared, |_| members.observe(&mut hashes));
    report.faults.clone_from(nemesis.fired());
    report.simulated_s = sim.elapsed().as_secs_f64();
    let history = recorded.history.lock().expect("the tasks have ended").clone();
    (report.known, report.failed, report.unknown) = history.counts();
    report.operations = history.operations.len();
    // A broken history says more than the end of a host that it led to.
    linearizability::check(&history)?;
    driven?;
    let log = recorded.log.events();
    durability::check(&history, &log)?;
    recorded.watched.all().iter().try_for_each(|observed| watch::check(observed, &log))
}

/// What runs on the client host.
struct Scenario {
    options: Options,
    env: Env,
    names: Vec<String>,
    members: Members,
    shared: Shared,
    recorded: Recorded,
    compacts: bool,
}

impl Scenario {
    async fn run(self) -> turmoil::Result {
        if let Err(violation) = self.load_and_settle().await {
            self.shared.violated(violation);
        }
        Ok(())
    }

    async fn load_and_settle(&self) -> Result<(), Violation> {
        let skips = self.options.plant == Some(Plant::SkippedWatch);
        for i in 0..WATCHERS {
            let random = SeededRandom::derive(self.options.seed, &format!("watcher {i}"));
            let kv = self.kv(u64::from(i));
            tokio::spawn(watcher::run(
                i,
                kv,
                self.recorded.watched.clone(),
                self.shared.clone(),
                random,
                skips && i == 0,
            ));
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let random = SeededRandom::derive(self.options.seed, &format!("client {id}"));
                let kv = self.kv(random.below(MEMBERS as u64));
                tokio::spawn(load::run(id, kv, random, self.recorded.history.clone(), self.shared.clone()))
            })
            .collect();
        let compactor = self.compacts.then(|| {
            let (log, kv, shared) = (self.recorded.log.clone(), self.kv(0), self.shared.clone());
            tokio::spawn(async move {
                while shared.stage() == Stage::Load {
                    tokio::time::sleep(COMPACT_INTERVAL).await;
                    log.compact(&kv, &shared).await;
                }
            })
        });
        let ended = |error: tokio::task::JoinError| Violation::new("panic", error.to_string());
        for client in clients {
            client.await.map_err(ended)?;
        }
        self.shared.set_stage(Stage::LoadEnded);
        if let Some(compactor) = compactor {
            compactor.await.map_err(ended)?;
        }
        settle::settle(self).await
    }

    /// A client of all members that begins with the one of this index.
    fn kv(&self, first: u64) -> GrpcKv {
        let mut endpoints: Vec<String> = self.names.iter().map(|name| format!("{name}:{STORE_CLIENT_PORT}")).collect();
        endpoints.rotate_left(first as usize % MEMBERS);
        GrpcKv::new(&self.env, GrpcKvOptions::new(endpoints)).expect("valid endpoints")
    }
}
