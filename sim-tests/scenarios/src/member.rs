//! Members of the store as every scenario configures and sees them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use keelstone_checkers::{commit_quorum, state_hash::StateHashes, terms::Terms, Violation};
use keelstone_env::{ClientTls, ServerTls};
use keelstone_mvcc::Mvcc;
use keelstone_raft::{constants::FEATURE_LEVEL, MemberChange, RaftNode, RaftStatus};
use keelstone_store_server::{InitialMember, PeerTls, RunningStore, StoreConfig};
use keelstone_world::simulated_certificate;
use tokio::sync::{mpsc, watch};

use crate::{
    constants::{ORDERS_QUEUED_MAX, STATE_HASH_INTERVAL, STORE_CLIENT_PORT, STORE_PEER_PORT},
    plan::Knobs,
    simulation::Shared,
};

/// What the fault injector may ask of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Hand leadership to another voter; `turn` says to which.
    HandOver { turn: usize },
    /// Change the membership.
    Change(MemberChange),
}

/// What is seen of the members from outside.
#[derive(Clone, Default)]
pub struct Members(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    members: BTreeMap<String, Member>,
    hashes: StateHashes,
    /// When they are compared next.
    hashes_at: Duration,
    terms: Terms,
    /// When each newest revision was first applied by some member.
    revisions: Vec<(i64, Duration)>,
    /// Some disk has lost or altered what was synced.
    damaged: bool,
    /// Members that were added to the running cluster.
    joining: BTreeSet<String>,
    /// What members can do that run as an older release.
    old: BTreeMap<String, u32>,
    /// Members whose process was ended from outside: what they said last is no longer so.
    ended: BTreeSet<String>,
}

#[derive(Clone)]
pub struct Member {
    pub mvcc: Arc<Mvcc>,
    pub status: watch::Receiver<RaftStatus>,
    raft: RaftNode,
    orders: mpsc::Sender<Order>,
}

impl Members {
    /// The members that have started; the last life of one that is down.
    pub fn all(&self) -> BTreeMap<String, Member> {
        self.state().members.clone()
    }

    /// Shows this member from now on, until it fails, which is the error.
    pub async fn follow(&self, name: &str, store: &RunningStore, shared: &Shared) -> turmoil::Result {
        let mut status = store.raft().status_watch();
        let (orders, mut received) = mpsc::channel(ORDERS_QUEUED_MAX);
        let (mvcc, raft) = (Arc::clone(store.mvcc()), store.raft().clone());
        let member = Member { mvcc, status: status.clone(), raft: raft.clone(), orders };
        self.state().begins(name, member);
        shared.saw("member_starts");
        let mut led = false;
        loop {
            let now = status.borrow_and_update().clone();
            if let Some(failed) = now.failed {
                return Err(failed.into());
            }
            if let Some(leader) = now.leader {
                if let Err(violation) = self.state().terms.observe(name, now.term, leader) {
                    shared.violated(violation);
                }
            }
            let leads = now.leader == Some(now.id);
            if leads && !led {
                shared.saw("leaderships");
            }
            led = leads;
            tokio::select! {
                biased;
                changed = status.changed() => changed?,
                Some(order) = received.recv() => carry_out(&raft, order, shared).await,
            }
        }
    }

    /// Asks the member that calls itself leader.
    pub fn order_leader(&self, order: Order) {
        if let Some((_, leader)) = self.state().leader() {
            // A queue that is full has enough to do.
            let _ = leader.orders.try_send(order);
        }
    }

    /// When `revision` was first applied somewhere; the last time that is known if it never was.
    pub fn time_of(&self, revision: i64) -> Duration {
        let state = self.state();
        let at = state.revisions.partition_point(|(known, _)| *known < revision);
        state.revisions.get(at).or(state.revisions.last()).map_or(Duration::ZERO, |(_, time)| *time)
    }

    /// Who calls itself leader in the newest term.
    pub fn leader(&self) -> Option<String> {
        self.state().leader().map(|(name, _)| name.clone())
    }

    /// The committed membership as the member that calls itself leader sees it; `None` while it changes.
    pub fn leaders_view(&self) -> Option<RaftStatus> {
        let status = self.state().leader()?.1.status.borrow().clone();
        (status.membership_index <= status.committed).then_some(status)
    }

    /// This host's process was ended.
    pub fn note_end(&self, host: &str) {
        self.state().ended.insert(host.to_owned());
    }

    /// From now on this host's member joins the running cluster, if its disk is empty.
    pub fn set_joins(&self, host: &str) {
        self.state().joining.insert(host.to_owned());
    }

    /// What a host's member can do from its next start on.
    pub fn set_level(&self, host: &str, level: u32) {
        match level < FEATURE_LEVEL {
            true => self.state().old.insert(host.to_owned(), level),
            false => self.state().old.remove(host),
        };
    }

    /// Hosts whose member runs as an older release.
    pub fn old(&self) -> Vec<String> {
        self.state().old.keys().cloned().collect()
    }

    /// Whether a host's member may be too old for its cluster.
    pub fn is_old(&self, host: &str) -> bool {
        self.state().old.contains_key(host)
    }

    /// How a member starts this time.
    pub fn configure(&self, config: &mut StoreConfig) {
        let state = self.state();
        config.bootstrap = !state.joining.contains(&config.name);
        config.feature_level = state.old.get(&config.name).copied().unwrap_or(FEATURE_LEVEL);
    }

    /// Compares what is committed with what a quorum has and, now and then, the state hashes of members that have
    /// applied the same index.
    pub fn observe(&self, now: Duration) -> Result<(), Violation> {
        let mut guard = self.state();
        let State { members, hashes, hashes_at, revisions, damaged, .. } = &mut *guard;
        let newest = members.values().map(|member| member.mvcc.revision()).max().unwrap_or(0);
        if revisions.last().is_none_or(|(known, _)| *known < newest) {
            revisions.push((newest, now));
        }
        if now >= *hashes_at {
            *hashes_at = now + STATE_HASH_INTERVAL;
            for (name, member) in members.iter() {
                let (index, hash) = member.mvcc.state_hash();
                hashes.observe(name, index, hash)?;
            }
        }
        // A member that is down, or whose log has failed, has what its last life made durable.
        let ends: Vec<(&str, u64)> =
            members.iter().map(|(name, member)| (name.as_str(), member.raft.durable_end())).collect();
        if *damaged {
            return Ok(());
        }
        members.iter().try_for_each(|(name, member)| {
            let status = member.status.borrow();
            // Only while all voters are known here can a quorum be counted.
            if status.committed == 0 || status.voters.len() != ends.len() {
                return Ok(());
            }
            commit_quorum::check(name, status.committed + 1, &ends)
        })
    }

    /// From now on what was durable may be gone from some disk.
    pub fn note_damage(&self) {
        self.state().damaged = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while locked")
    }
}

impl State {
    fn begins(&mut self, name: &str, member: Member) {
        self.ended.remove(name);
        self.members.insert(name.to_owned(), member);
    }

    /// Who calls itself leader in the newest term. One that is down may have done so last, which says nothing.
    fn leader(&self) -> Option<(&String, &Member)> {
        let running = self.members.iter().filter(|(name, _)| !self.ended.contains(*name));
        running
            .filter(|(_, member)| member.status.borrow().is_leader())
            .max_by_key(|(_, member)| member.status.borrow().term)
    }
}

async fn carry_out(raft: &RaftNode, order: Order, shared: &Shared) {
    let turn = match order {
        Order::HandOver { turn } => turn,
        Order::Change(change) => {
            // It waits for others; the member is to be seen meanwhile.
            let (raft, shared) = (raft.clone(), shared.clone());
            tokio::spawn(async move {
                match raft.change_members(change).await {
                    Ok(_) => shared.saw("members_changed"),
                    Err(error) => shared.hash(&format!("changing the members: {error}")),
                }
            });
            return;
        }
    };
    let status = raft.status();
    let others: Vec<u64> = status.voters.iter().copied().filter(|id| *id != status.id).collect();
    let Some(to) = others.get(turn % others.len().max(1)) else { return };
    match raft.transfer_leader(*to).await {
        Ok(()) => shared.saw("leader_moved"),
        Err(error) => shared.hash(&format!("moving the leader: {error}")),
    }
}

/// How the others reach a host's member.
pub fn peer_url(host: &str) -> String {
    format!("https://{host}:{STORE_PEER_PORT}")
}

/// A member's configuration: peers over TLS with certificates, clients in plaintext.
pub fn config(name: &str, names: &[String], knobs: &Knobs) -> StoreConfig {
    let initial = names.iter().map(|name| InitialMember { name: name.clone(), peer_url: peer_url(name) }).collect();
    let mut config = StoreConfig::new(name, initial, "/data/store");
    let certificate = simulated_certificate(name, &[]);
    config.listen_client = format!("{name}:{STORE_CLIENT_PORT}");
    config.peer_tls = Some(PeerTls {
        server: ServerTls {
            certificate: certificate.clone(),
            client_ca: Some("the peers' authority".into()),
            client_certificate_required: true,
            ..ServerTls::default()
        },
        client: ClientTls { identity: Some((certificate, String::new())), ..ClientTls::default() },
    });
    config.limits = knobs.limits();
    config.watch_window_events_max = knobs.watch_window_events as usize;
    config.watch_batch_events_max = knobs.watch_batch_events as usize;
    config
}
