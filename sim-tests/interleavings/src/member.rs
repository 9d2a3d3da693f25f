use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::future::BoxFuture;
use keelstone_engine::{MemEngine, MemOptions};
use keelstone_env::{Env, Offload, Random};
use keelstone_mvcc::{Mvcc, MvccOptions};
use keelstone_raft::{discover, DataOwner, Limits, MemberInfo, RaftConfig, RaftNode};
use keelstone_world::{SeededRandom, SimClock, SimDisk, SimTls};
use tokio::sync::mpsc;

use crate::{
    constants::*,
    net::{self, MadNet},
};

const STORE_DIR: &str = "/data/store";

/// The running parts of a member.
#[derive(Clone)]
pub struct Life {
    pub node: RaftNode,
    pub mvcc: Arc<Mvcc>,
}

/// Work on a member's host: it ends with the process.
pub type Job = Box<dyn FnOnce(Life) -> BoxFuture<'static, ()> + Send>;

/// A member of the store: what outlives its process, and the way in to the present one.
pub struct Member {
    /// The host's place, from 1.
    pub place: u64,
    pub name: String,
    pub disk: SimDisk,
    random: Arc<SeededRandom>,
    knobs: Knobs,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Its id in the cluster; `None`: the host is no member.
    id: Option<u64>,
    /// It joins a cluster that exists.
    joins: bool,
    /// It is to be removed, or has lost its disk: it may end by itself.
    leaves: bool,
    /// Its disk does not hold what it had made durable.
    lost: bool,
    /// The present life, or the last one.
    life: Option<Life>,
    door: Option<mpsc::Sender<Job>>,
    /// Why the process ended by itself.
    ended: Option<String>,
}

/// What a seed chooses of the members' settings.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    pub self_flush_one_in: u64,
    pub watch_window_events: usize,
    pub watch_batch_events: usize,
    pub promote_learners: bool,
    pub kept_entries: u64,
    pub flush_bytes: u64,
    pub segment_bytes: u64,
}

impl Knobs {
    pub fn draw(random: &SeededRandom) -> Self {
        let one_of = |values: &[u64]| values[random.below(values.len() as u64) as usize];
        Self {
            self_flush_one_in: one_of(&[0, 3, 30]),
            watch_window_events: one_of(&[1, 8, 1_000]) as usize,
            watch_batch_events: one_of(&[1, 5, 1_000]) as usize,
            kept_entries: one_of(&[1, 20, 10_000]),
            flush_bytes: one_of(&[1_000, 20_000, 10_000_000]),
            segment_bytes: one_of(&[4_096, 65_536]),
            promote_learners: random.chance(50),
        }
    }
}

impl Member {
    /// A host; those of the first places are members from the beginning, under the place as their id.
    pub fn new(seed: u64, place: u64, knobs: Knobs) -> Arc<Self> {
        let name = format!("m{place}");
        let random = Arc::new(SeededRandom::derive(seed, &name));
        let state = State { id: (place <= MEMBERS).then_some(place), ..State::default() };
        Arc::new(Self { place, disk: SimDisk::new(seed, &name), name, random, knobs, state: Mutex::new(state) })
    }

    pub fn ip(place: u64) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, place as u8))
    }

    /// Its id, if it is a member that is not about to leave.
    pub fn id(&self) -> Option<u64> {
        let state = self.state();
        state.id.filter(|_| !state.leaves)
    }

    /// It is to be removed; returns its id if it is a member.
    pub fn leave(&self) -> Option<u64> {
        let mut state = self.state();
        state.leaves = true;
        state.id
    }

    /// It is no member any more.
    pub fn forget(&self) {
        *self.state() = State::default();
    }

    /// It was added and will start, with an empty disk.
    pub fn join(&self, id: u64) {
        *self.state() = State { id: Some(id), joins: true, ..State::default() };
    }

    /// Its disk is about to be lost.
    pub fn note_loss(&self) {
        let mut state = self.state();
        (state.leaves, state.lost) = (true, true);
    }

    pub fn has_lost_its_disk(&self) -> bool {
        self.state().lost
    }

    pub fn promotes_itself(&self) -> bool {
        self.knobs.promote_learners
    }

    pub fn is_up(&self) -> bool {
        self.state().door.is_some()
    }

    pub fn life(&self) -> Option<Life> {
        self.state().life.clone()
    }

    /// Why the process ended by itself, if it had no reason to.
    pub fn ended(&self) -> Option<String> {
        let state = self.state();
        state.ended.clone().filter(|_| !state.leaves)
    }

    /// Gives the process work; false if there is none to take it.
    pub fn hand_in(&self, job: Job) -> bool {
        self.state().door.as_ref().is_some_and(|door| door.try_send(job).is_ok())
    }

    /// The process is gone.
    pub fn note_down(&self) {
        self.state().door = None;
    }

    /// One life of the process.
    pub async fn run(self: Arc<Self>) {
        if let Err(error) = self.live().await {
            self.state().ended = Some(error);
        }
    }

    async fn live(&self) -> Result<(), String> {
        let (id, joins) = {
            let state = self.state();
            (state.id, state.joins)
        };
        let Some(id) = id else { return Ok(()) };
        let env = self.env();
        if joins {
            make_sure(&env, id, self.place).await?;
        }
        let options = MemOptions { self_flush_one_in: self.knobs.self_flush_one_in };
        let engine = MemEngine::open(env.clone(), "/data/state", options).map_err(|error| error.to_string())?;
        let options = MvccOptions {
            env: Some(env.clone()),
            watch_window_events_max: self.knobs.watch_window_events,
            watch_batch_events_max: self.knobs.watch_batch_events,
            ..MvccOptions::default()
        };
        let mvcc = Arc::new(Mvcc::open(Arc::new(engine), options).map_err(|error| error.to_string())?);
        let address = peer_address(self.place);
        let listener = env.net().bind(&address).await.map_err(|error| error.to_string())?;
        let node =
            RaftNode::start(env, self.config(id, joins), Arc::clone(&mvcc)).await.map_err(|error| error.to_string())?;
        tokio::spawn(net::serve(listener, node.peer_service()));
        let life = Life { node: node.clone(), mvcc };
        let (door, mut jobs) = mpsc::channel::<Job>(CALLS_QUEUED_MAX);
        {
            let mut state = self.state();
            (state.life, state.door) = (Some(life.clone()), Some(door));
        }
        let mut status = node.status_watch();
        loop {
            tokio::select! {
                biased;
                failed = status.wait_for(|status| status.failed.is_some()) => {
                    return Err(failed.map_or_else(|e| e.to_string(), |s| s.failed.clone().unwrap_or_default()));
                }
                job = jobs.recv() => match job {
                    Some(job) => drop(tokio::spawn(job(life.clone()))),
                    None => return Ok(()),
                },
            }
        }
    }

    fn config(&self, id: u64, joins: bool) -> RaftConfig {
        let info = |place: u64| MemberInfo {
            name: format!("m{place}"),
            peer_address: peer_address(place),
            peer_urls: vec![format!("http://{}", peer_address(place))],
            ..MemberInfo::default()
        };
        let mut members: BTreeMap<u64, MemberInfo> =
            (1..=MEMBERS).filter(|place| *place != self.place).map(|place| (place, info(place))).collect();
        members.insert(id, info(self.place));
        let mut config = RaftConfig::new(id, 7, STORE_DIR, members);
        (config.bootstrap, config.promote_learners) = (!joins, self.knobs.promote_learners);
        config.limits = Limits {
            flush_bytes: self.knobs.flush_bytes,
            flush_interval: Duration::from_secs(2),
            kept_entries: self.knobs.kept_entries,
            segment_bytes_max: self.knobs.segment_bytes,
        };
        config.timing.request_max = Duration::from_secs(2);
        config
    }

    fn env(&self) -> Env {
        let random = Arc::new(Shared(self.random.clone()));
        let offload = Arc::new(MadOffload(self.random.clone()));
        Env::from_parts(
            Arc::new(SimClock::new(0)),
            random,
            Arc::new(MadNet),
            Arc::new(self.disk.clone()),
            Arc::new(SimTls),
            offload,
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }
}

/// A joiner without data asks the others whether it may take part, as the store's server does.
async fn make_sure(env: &Env, id: u64, place: u64) -> Result<(), String> {
    if DataOwner::read(env, Path::new(STORE_DIR)).map_err(|error| error.to_string())?.is_some() {
        return Ok(());
    }
    let others: Vec<String> = (1..=MEMBERS).filter(|other| *other != place).map(peer_address).collect();
    let urls = [format!("http://{}", peer_address(place))];
    let found = discover(env, None, &others, &urls, LIVENESS_TIME_MAX).await.map_err(|error| error.to_string())?;
    match found.member_id == id {
        true => Ok(()),
        false => Err(format!("added as {id:x}, found as {:x}", found.member_id)),
    }
}

pub fn peer_address(place: u64) -> String {
    format!("{}:{PEER_PORT}", Member::ip(place))
}

struct Shared(Arc<SeededRandom>);

impl Random for Shared {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

/// Runs work in place, after a delay that stands for the thread pool and the device.
struct MadOffload(Arc<SeededRandom>);

impl Offload for MadOffload {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let delay = Duration::from_micros(self.0.below(OFFLOAD_US_MAX));
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            work();
        })
    }
}
