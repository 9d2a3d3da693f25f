use std::{fs::File, io::BufWriter, sync::Arc};

use keelstone_checkers::Violation;
use keelstone_env::bug;
use keelstone_world::{Determinism, EventHash};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, Layer};

use crate::{
    leaders::{self, Leaders},
    points::Points,
    scratch::Scratch,
    simulation::Shared,
    stack, store,
    subscriber::{hashed, EventsAlone},
    trace::Trace,
    Options, Plan, Plant, Report, Scenario,
};

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub report: Report,
    pub violation: Option<Violation>,
}

/// Runs `plan`; its traces go where `options` say. Call it once in a process, on a thread of its own: what
/// threads and processes hold in statics decides the run too.
///
/// # Errors
/// If the dump or the working folder cannot be created.
pub fn run(options: &Options, plan: Plan) -> std::io::Result<Ended> {
    let hash = match &options.dump {
        #[allow(clippy::disallowed_methods, reason = "the dump lies outside of the simulated world")]
        Some(path) => EventHash::dumping(BufWriter::new(File::create(path)?)),
        None => EventHash::default(),
    };
    // The run has a working folder of its own.
    let trace_path = options.trace.as_ref().map(std::path::absolute).transpose()?;
    let plan = Arc::new(plan);
    let _scratch = Scratch::enter()?;
    let _determinism = Determinism::start(plan.seed);
    let trace = options.trace.as_ref().map(|_| Trace::default());
    let shared = Shared::new(hash.clone(), trace.clone());
    let points = Points::new(plan.seed, plan.knobs.points_percent, plan.knobs.overtake_percent, shared.clone());
    let _points = points.install();
    let _bug = match plan.plant {
        Some(Plant::Known(known)) => Some(bug::plant(known)),
        _ => None,
    };
    let leaders = Leaders::default();
    let _tracing = match &trace {
        None => {
            let events = EventsAlone { hash: hash.clone(), leaders: leaders.clone(), hashed: hashed() };
            tracing::subscriber::set_default(events)
        }
        Some(trace) => {
            let leading = Targets::new().with_target(leaders::TARGET, tracing::Level::INFO);
            let layers = tracing_subscriber::registry()
                .with(hash.clone().with_filter(hashed()))
                .with(trace.clone().with_filter(traced()))
                .with(leaders.clone().with_filter(leading));
            tracing::subscriber::set_default(layers)
        }
    };
    let mut report = Report::default();
    let ended = match plan.scenario {
        Scenario::Store => store::run(&plan, &shared, &mut report),
        Scenario::Stack | Scenario::Mixed => stack::run(&plan, &shared, &leaders, &mut report),
    };
    let ended = if plan.is_case { ended } else { ended.and_then(|()| report.check_effort()) };
    let (points, sights) = points.counts();
    report.points = points;
    report.seen = shared.seen();
    report.sights = sights;
    (report.hash, report.events) = hash.value();
    if let (Some(trace), Some(path)) = (trace, &trace_path) {
        let story = ended.as_ref().err().map(|violation| format!(": {}", violation.invariant)).unwrap_or_default();
        trace.write(path, &format!("Keelstone, {} seed {}{story}", plan.scenario.name(), plan.seed))?;
    }
    Ok(Ended { report, violation: ended.err() })
}

/// What goes into a trace.
fn traced() -> Targets {
    Targets::new()
        .with_target("keelstone", tracing::Level::INFO)
        .with_target("turmoil", tracing::Level::INFO)
        .with_target("openraft", tracing::Level::WARN)
}
