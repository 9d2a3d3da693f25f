use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use keelstone_apiserver::perturb::{Plan, Report};
use keelstone_world::{Determinism, EventHash, Host, EPOCH_UNIX_S};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    Layer,
};

use crate::{
    client::kube_client,
    fleet::{self, Naming},
    master::{self, Written, MASTER},
    user::{self, NAMESPACE},
};

/// The user that plans name.
pub const OPERATOR: &str = "fleet-operator";
/// How often the user and the host look.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
/// Simulated time moves in such steps.
const TICK: Duration = Duration::from_millis(2);

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was broken; `None` if everything held.
    pub violation: Option<String>,
    /// The operator's writes.
    pub report: Report,
    /// Of every event of the simulation, and their number.
    pub hash: (u64, u64),
}

/// Runs the operator under a plan from one seed. Call it once in a process, on a thread of its own.
///
/// # Errors
/// If the simulation does not run to its end.
pub fn run(seed: u64, plan: Plan, naming: Naming) -> turmoil::Result<Outcome> {
    let _determinism = Determinism::start(seed);
    let hash = EventHash::default();
    let events = Targets::new().with_default(LevelFilter::DEBUG).with_target("turmoil", LevelFilter::TRACE);
    let _events =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(hash.clone().with_filter(events)));
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH_UNIX_S))
        .simulation_duration(RUN_TIME_MAX)
        .tick_duration(TICK)
        .enable_random_order()
        .build();
    let host = |name: &str| Host::new(seed, name, 0);
    let written = Written::default();
    let (master_host, report) = (host(MASTER), written.clone());
    sim.host(MASTER, move || master::serve(master_host.clone(), plan.clone(), report.clone()));
    let operator_host = host("operator");
    sim.host("operator", move || operate(operator_host.clone(), naming));
    let (user_host, violation) = (host("user"), Arc::new(Mutex::new(None)));
    let found = violation.clone();
    sim.client("user", async move {
        *found.lock().unwrap_or_else(PoisonError::into_inner) = user::watch_over(&user_host).await?;
        // The report of what led to it has been handed over by then.
        tokio::time::sleep(2 * LOOK_INTERVAL).await;
        Ok(())
    });
    sim.run()?;
    let violation = violation.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(Outcome { violation, report: written.report(), hash: hash.value() })
}

async fn operate(host: Host, naming: Naming) -> turmoil::Result {
    let client = kube_client(&host.env(), master::reached_by(OPERATOR), NAMESPACE)?;
    fleet::run(client, naming).await;
    Ok(())
}
