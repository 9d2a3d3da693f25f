//! Three members of the store and clients with several workloads ([`workloads`]). Checked besides what the
//! workloads check: equal state (4), commit on quorum (1), one leader a term, and that all members agree once
//! the faults are over.

mod serve;
mod settle;
mod workloads;

use std::{rc::Rc, sync::Arc, time::Duration};

use keelstone_checkers::Violation;
use keelstone_env::Random;
use keelstone_store_client::{EtcdKv, GrpcKv};

use crate::{
    effort::Effort,
    faults::{self, Nemesis},
    log::Log,
    member::Members,
    plan::Plan,
    simulation::{self, Shared, Stage},
    Report,
};
use workloads::{Clients, LOG_END, LOG_FIRST};

const CLIENT: &str = "client";
const MEMBERS: usize = 3;
/// A key that comes and goes.
const SCRATCH: &str = "scratch";

fn names() -> Vec<String> {
    (1..=MEMBERS).map(|i| format!("m{i}")).collect()
}

/// Whom faults may fall on.
pub fn fault_hosts() -> faults::Hosts {
    faults::Hosts {
        masters: names(),
        workers: vec![],
        clients: vec![CLIENT.to_owned()],
        lasting_damage: true,
        membership: true,
    }
}

/// The names of all workloads.
pub fn workloads() -> Vec<&'static str> {
    workloads::all().iter().map(|workload| workload.name()).collect()
}

pub fn run(plan: &Arc<Plan>, shared: &Shared, report: &mut Report) -> Result<(), Violation> {
    let names = names();
    let hosts = simulation::hosts(plan.seed, names.iter().cloned().chain([CLIENT.to_owned()]));
    let mut sim = simulation::build(plan.seed);
    let members = Members::default();
    for name in &names {
        let (host, plan) = (hosts[name].clone(), Arc::clone(plan));
        let (names, members, shared) = (names.clone(), members.clone(), shared.clone());
        sim.host(name.as_str(), move || {
            serve::serve(host.clone(), names.clone(), Arc::clone(&plan), members.clone(), shared.clone())
        });
    }
    let workloads: Vec<_> =
        workloads::all().into_iter().filter(|w| plan.workloads.iter().any(|name| name == w.name())).collect();
    let clients = Clients {
        plan: Arc::clone(plan),
        env: hosts[CLIENT].env(),
        names,
        shared: shared.clone(),
        effort: Effort::new(shared, plan, 1),
    };
    let log = Log::new(LOG_FIRST, LOG_END);
    let workloads = Rc::new(workloads);
    let scenario = Scenario {
        clients: clients.clone(),
        members: members.clone(),
        log: log.clone(),
        workloads: Rc::clone(&workloads),
    };
    sim.client(CLIENT, scenario.run());
    let mut nemesis = Nemesis::new(plan.seed, hosts, members.clone(), plan.faults.clone());
    let driven = simulation::drive(&mut sim, &mut nemesis, shared, |now| members.observe(now));
    report.faults.clone_from(nemesis.fired());
    report.simulated_s = sim.elapsed().as_secs_f64();
    [report.known, report.failed, report.unknown] = clients.effort.counts();
    report.operations = report.known + report.failed + report.unknown;
    // A broken history says more than the end of a host that it led to.
    workloads.iter().try_for_each(|workload| workload.check())?;
    driven?;
    let log = log.events();
    workloads.iter().try_for_each(|workload| workload.check_log(&log))
}

/// What runs on the client host.
struct Scenario {
    clients: Clients,
    members: Members,
    log: Log,
    workloads: Rc<Vec<Box<dyn workloads::Workload>>>,
}

impl Scenario {
    async fn run(self) -> turmoil::Result {
        if let Err(violation) = self.load_and_settle().await {
            self.clients.shared.violated(violation);
        }
        Ok(())
    }

    async fn load_and_settle(&self) -> Result<(), Violation> {
        let shared = &self.clients.shared;
        let tasks: Vec<_> = self.workloads.iter().flat_map(|workload| workload.start(&self.clients)).collect();
        let compactor = (self.clients.plan.knobs.compact_ms > 0).then(|| tokio::spawn(self.compact_now_and_then()));
        let ended = |error: tokio::task::JoinError| Violation::new("panic", error.to_string());
        for task in tasks {
            task.await.map_err(ended)?;
        }
        // Without clients that end by themselves there is a time.
        while self.clients.effort.goes_on() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        shared.set_stage(Stage::LoadEnded);
        if let Some(compactor) = compactor {
            compactor.await.map_err(ended)?;
        }
        settle::settle(self).await
    }

    /// Compacts at some revision since the last compaction, often the newest; sometimes that is the end of a key.
    fn compact_now_and_then(&self) -> impl std::future::Future<Output = ()> {
        let (log, kv, clients) = (self.log.clone(), self.kv(0), self.clients.clone());
        let pause = Duration::from_millis(clients.plan.knobs.compact_ms);
        let random = clients.random("compactor");
        async move {
            while clients.shared.stage() == Stage::Load {
                tokio::time::sleep(pause).await;
                let newest = clients.in_lull() || random.chance(50);
                if newest && (clients.in_lull() || random.chance(25)) {
                    // What fails here was compacted away already, or is the next time.
                    let _ = kv.put(workloads::put(SCRATCH, "")).await;
                    let _ = kv.delete_range(workloads::delete(SCRATCH)).await;
                }
                let percent = if newest { 100 } else { random.below(100) };
                log.compact(&kv, &clients.shared, percent).await;
            }
        }
    }

    fn kv(&self, first: u64) -> GrpcKv {
        self.clients.kv(first)
    }
}
