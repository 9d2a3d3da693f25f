use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::future::BoxFuture;
use keelstone_engine::{MemEngine, MemOptions};
use keelstone_env::{Env, Offload, Random};
use keelstone_mvcc::{Mvcc, MvccOptions};
use keelstone_raft::{Limits, MemberInfo, RaftConfig, RaftNode};
use keelstone_world::{SeededRandom, SimClock, SimDisk, SimTls};
use tokio::sync::mpsc;

use crate::{
    constants::*,
    net::{self, MadNet},
};

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
    pub id: u64,
    pub name: String,
    pub disk: SimDisk,
    random: Arc<SeededRandom>,
    knobs: Knobs,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
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
        }
    }
}

impl Member {
    pub fn new(seed: u64, id: u64, knobs: Knobs) -> Arc<Self> {
        let name = format!("m{id}");
        let random = Arc::new(SeededRandom::derive(seed, &name));
        Arc::new(Self { id, disk: SimDisk::new(seed, &name), name, random, knobs, state: Mutex::default() })
    }

    pub fn ip(id: u64) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, id as u8))
    }

    pub fn life(&self) -> Option<Life> {
        self.state().life.clone()
    }

    pub fn ended(&self) -> Option<String> {
        self.state().ended.clone()
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
        let env = self.env();
        let options = MemOptions { self_flush_one_in: self.knobs.self_flush_one_in };
        let engine = MemEngine::open(env.clone(), "/data/state", options).map_err(|error| error.to_string())?;
        let options = MvccOptions {
            env: Some(env.clone()),
            watch_window_events_max: self.knobs.watch_window_events,
            watch_batch_events_max: self.knobs.watch_batch_events,
            ..MvccOptions::default()
        };
        let mvcc = Arc::new(Mvcc::open(Arc::new(engine), options).map_err(|error| error.to_string())?);
        let address = peer_address(self.id);
        let listener = env.net().bind(&address).await.map_err(|error| error.to_string())?;
        let node = RaftNode::start(env, self.config(), Arc::clone(&mvcc)).await.map_err(|error| error.to_string())?;
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

    fn config(&self) -> RaftConfig {
        let info =
            |id: u64| MemberInfo { name: format!("m{id}"), peer_address: peer_address(id), ..MemberInfo::default() };
        let members = (1..=MEMBERS).map(|id| (id, info(id))).collect();
        let mut config = RaftConfig::new(self.id, 7, "/data/store", members);
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

fn peer_address(id: u64) -> String {
    format!("{}:{PEER_PORT}", Member::ip(id))
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
