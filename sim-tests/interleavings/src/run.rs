use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use keelstone_checkers::{commit_quorum, state_hash::StateHashes, terms::Terms, Violation};
use keelstone_env::{
    bug::{self, Bug},
    fault,
};
use keelstone_world::{EventHash, SeededRandom};
use madsim::{
    runtime::{Handle, Runtime},
    time::TimeHandle,
    Config,
};
use tokio::time::{sleep, timeout, Instant};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    Layer,
};

use crate::{
    constants::*,
    faults::{Faults, Kind},
    log::Log,
    member::{Knobs, Life, Member},
    membership::{self, Operator},
    points::Points,
    watched::Watched,
    workloads::{self, Load, Workload},
};

/// What a run did.
#[derive(Debug, Default)]
pub struct Report {
    /// Operations by their end: ok, failed, unknown.
    pub operations: [usize; 3],
    pub faults: BTreeMap<Kind, u64>,
    pub sights: BTreeMap<&'static str, u64>,
    pub terms: usize,
    pub compared_hashes: u64,
    pub watch_events: usize,
    pub watches_compacted: u64,
    pub simulated: Duration,
    pub events: u64,
    pub hash: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ok, failed, unknown] = self.operations;
        write!(f, "ok={ok} failed={failed} unknown={unknown} |")?;
        self.faults.iter().try_for_each(|(kind, count)| write!(f, " {kind:?}={count}"))?;
        write!(f, " |")?;
        self.sights.iter().try_for_each(|(sight, count)| write!(f, " {sight}: {count};"))?;
        let Self { terms, compared_hashes, watch_events, watches_compacted, simulated, events, hash, .. } = self;
        write!(
            f,
            " | terms={terms} hashes_compared={compared_hashes} watch_events={watch_events} \
             watches_compacted={watches_compacted} simulated_s={:.1} \
             events={events} hash={hash:016x}",
            simulated.as_secs_f64()
        )
    }
}

/// Runs one seed. Call it once in a process, on a thread of its own: madsim gives a thread's hash maps their seed.
///
/// # Panics
/// If the code under test panics, or does not end.
pub fn run(seed: u64, planted: Option<Bug>, hash: EventHash) -> (Report, Result<(), Violation>) {
    let mut config = Config::default();
    config.net.send_latency = LATENCY;
    let mut runtime = Runtime::with_seed_and_config(seed, config);
    runtime.set_time_limit(RUN_TIME_MAX);
    let _bug = planted.map(bug::plant);
    let points = Points::new(seed);
    let _points = fault::install(points.clone());
    let targets =
        Targets::new().with_target("keelstone", LevelFilter::TRACE).with_target("openraft", LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry().with(hash.clone().with_filter(targets));
    let _tracing = tracing::subscriber::set_default(subscriber);
    let (mut report, ended) = runtime.block_on(World::new(seed, hash.clone()).run());
    report.sights = points.sights();
    (report.events, report.hash) = {
        let (hash, events) = hash.value();
        (events, hash)
    };
    (report, ended)
}

struct World {
    seed: u64,
    members: Vec<Arc<Member>>,
    faults: Faults,
    load: Load,
    log: Log,
    watched: Watched,
    workloads: Vec<Box<dyn Workload>>,
    looked: Looked,
}

/// What is seen of the members from outside.
#[derive(Default)]
struct Looked {
    terms: Terms,
    hashes: StateHashes,
}

impl World {
    fn new(seed: u64, hash: EventHash) -> Self {
        let knobs = Knobs::draw(&SeededRandom::derive(seed, "knobs"));
        let hosts = MEMBERS + u64::from(membership::is_drawn(seed));
        let members: Vec<Arc<Member>> = (1..=hosts).map(|place| Member::new(seed, place, knobs)).collect();
        let load = Load::new(seed, &members, &hash);
        Self {
            seed,
            faults: Faults::new(Vec::new(), hash),
            members,
            load,
            log: Log::default(),
            watched: Watched::default(),
            workloads: workloads::all(),
            looked: Looked::default(),
        }
    }

    async fn run(mut self) -> (Report, Result<(), Violation>) {
        let ended = self.load_and_check().await;
        let (watch_events, watches_compacted) = self.watched.counts();
        let report = Report {
            operations: self.load.counts(),
            faults: self.faults.struck(),
            terms: self.looked.terms.count(),
            compared_hashes: self.looked.hashes.compared(),
            watch_events,
            watches_compacted,
            simulated: TimeHandle::current().elapsed(),
            ..Report::default()
        };
        (report, ended)
    }

    async fn load_and_check(&mut self) -> Result<(), Violation> {
        let handle = Handle::current();
        let nodes = self.members.iter().map(|member| {
            let runs = Arc::clone(member);
            let node = handle.create_node().name(&member.name).ip(Member::ip(member.place));
            (Arc::clone(member), node.init(move || Arc::clone(&runs).run()).build().id())
        });
        self.faults = Faults::new(nodes.collect(), self.load.hash.clone());
        self.until_one_leads().await?;
        let tasks: Vec<_> = self.workloads.iter().flat_map(|workload| workload.start(&self.load)).collect();
        for first in 0..MEMBERS {
            let (name, random) =
                (format!("watcher {first}"), SeededRandom::derive(self.seed, &format!("watcher {first}")));
            let client = crate::cluster::Client::new(&self.members, first);
            tokio::spawn(self.watched.clone().follow(name, client, random, self.load.hash.clone()));
        }
        let random = SeededRandom::derive(self.seed, "compactions");
        let compactor = tokio::spawn(self.log.clone().compact(self.load.clone(), random));
        let faults = tokio::spawn(self.faults.clone().run(self.seed));
        let operator = match membership::is_drawn(self.seed) {
            true => Some(tokio::spawn(Operator::new(self.faults.clone(), self.load.clone()).run())),
            false => None,
        };
        let end = Instant::now() + LOAD_TIME;
        while Instant::now() < end {
            self.look()?;
            sleep(LOOK_INTERVAL).await;
        }
        self.load.end();
        for task in tasks.into_iter().chain([compactor, faults]) {
            task.await.map_err(|error| Violation::new("panic", error.to_string()))?;
        }
        if let Some(operator) = operator {
            let ended = timeout(LIVENESS_TIME_MAX, operator).await;
            let ended = ended.map_err(|_| Violation::new("liveness", "a change of the membership does not end"))?;
            ended.map_err(|error| Violation::new("panic", error.to_string()))?;
        }
        self.agree().await?;
        let log = self.log.events();
        self.workloads.iter().try_for_each(|workload| workload.check(&log))?;
        self.watched.check(&log)?;
        match self.load.counts()[0] {
            few if few < KNOWN_OPERATIONS_MIN => {
                Err(Violation::new("effort", format!("only {few} operations had a good end")))
            }
            _ => Ok(()),
        }
    }

    /// The last or present life of each member.
    fn lives(&self) -> Vec<(&str, Life)> {
        let members = self.members.iter().filter(|member| member.id().is_some());
        members.filter_map(|member| Some((member.name.as_str(), member.life()?))).collect()
    }

    /// Compares the members.
    fn look(&mut self) -> Result<(), Violation> {
        if let Some((member, why)) = self.members.iter().find_map(|m| Some((&m.name, m.ended()?))) {
            return Err(Violation::new("a process ended", format!("{member}: {why}")));
        }
        let lives: Vec<(String, Life)> = self.lives().into_iter().map(|(name, life)| (name.to_owned(), life)).collect();
        // One that is about to be removed votes as long as it is there.
        let voters = self.members.iter().filter(|member| !member.has_lost_its_disk());
        let voters = voters.filter_map(|member| Some((member.name.as_str(), member.life()?.node)));
        let ends: BTreeMap<u64, (&str, u64)> =
            voters.map(|(name, node)| (node.status().id, (name, node.durable_end()))).collect();
        for (name, life) in &lives {
            let status = life.node.status();
            if let Some(leader) = status.leader {
                self.looked.terms.observe(name, status.term, leader)?;
            }
            let (index, hash) = life.mvcc.state_hash();
            self.looked.hashes.observe(name, index, hash)?;
            // Only while all voters are known here, and by a membership that is committed, can a quorum be counted.
            let known = status.voters.iter().map(|id| ends.get(id).copied());
            if let (true, Some(ends)) = (status.committed > 0, known.collect::<Option<Vec<_>>>()) {
                if status.membership_index <= status.committed {
                    commit_quorum::check(name, status.committed + 1, &ends)?;
                }
            }
        }
        Ok(())
    }

    async fn until_one_leads(&mut self) -> Result<(), Violation> {
        let end = Instant::now() + LIVENESS_TIME_MAX;
        loop {
            self.look()?;
            let lives = self.lives();
            if lives.len() as u64 == MEMBERS && lives.iter().all(|(_, life)| life.node.status().leader.is_some()) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Violation::new("liveness", "nobody leads after the start"));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Without faults and load, all members come to one state, and leases have ended; then the rest of the log is read.
    async fn agree(&mut self) -> Result<(), Violation> {
        let end = Instant::now() + LIVENESS_TIME_MAX;
        loop {
            self.look()?;
            let lives = self.lives();
            let states: Vec<_> = lives.iter().map(|(_, life)| life.mvcc.state_hash()).collect();
            let leads = lives.iter().all(|(_, life)| life.node.status().leader.is_some());
            let leases = lives.iter().map(|(_, life)| life.node.leases().len()).sum::<usize>();
            let served = match lives.first() {
                Some((_, life)) if leads => {
                    matches!(timeout(LOOK_INTERVAL * 20, life.node.read_index()).await, Ok(Ok(())))
                }
                _ => false,
            };
            if served && leases == 0 && states.windows(2).all(|pair| pair[0] == pair[1]) {
                break;
            }
            if Instant::now() > end {
                let story = format!("after {LIVENESS_TIME_MAX:?}: states {states:?}, leads {leads}, leases {leases}");
                return Err(Violation::new("liveness", story));
            }
            sleep(LOOK_INTERVAL).await;
        }
        match self.lives().first() {
            Some((_, life)) => self.log.read(&life.mvcc).await,
            None => Err(Violation::new("liveness", "no member is there")),
        }
    }
}
