//! Changes of the membership, one at a time, by an operator who goes on only once the last one is committed: a member is
//! replaced; one whose disk is gone is refused, and replaced; a fourth one joins as a learner, votes, and goes again.

use std::time::Duration;

use keelstone_env::Random;
use keelstone_raft::{MemberChange, RaftStatus};
use keelstone_world::SeededRandom;
use tokio::time::{sleep, Instant};

use crate::{
    cluster::Client,
    constants::*,
    faults::{Faults, Kind},
    member::peer_address,
    workloads::Load,
};

const KINDS: &[Kind] = &[Kind::ReplaceMember, Kind::LoseDisk, Kind::AddMember];
/// The place of the member that is not there at first.
const SPARE: usize = MEMBERS as usize;

/// Whether a seed has an operator, and a fourth host for him.
pub fn is_drawn(seed: u64) -> bool {
    SeededRandom::derive(seed, "membership").chance(50)
}

pub struct Operator {
    faults: Faults,
    load: Load,
    client: Client,
    random: SeededRandom,
    /// The newest membership that was seen. A leader that does not know yet that it is deposed shows older ones.
    seen_index: u64,
}

impl Operator {
    pub fn new(faults: Faults, load: Load) -> Self {
        let (client, random) = (load.client(0), SeededRandom::derive(load.seed, "operator"));
        Self { faults, load, client, random, seen_index: 0 }
    }

    /// Changes the membership until the faults' time is over. At the end there are three members that vote.
    pub async fn run(mut self) {
        let end = Instant::now() + FAULTS_TIME_MAX;
        loop {
            sleep(self.between(CHANGE_PAUSE_MS)).await;
            if Instant::now() > end {
                return;
            }
            let kind = KINDS[self.random.below(KINDS.len() as u64) as usize];
            let at = self.random.below(MEMBERS) as usize;
            self.load.hash.add(&format!("{kind:?} of {at}"));
            self.faults.note(kind);
            match kind {
                Kind::AddMember => self.add_and_remove().await,
                _ => self.replace(at, kind == Kind::LoseDisk).await,
            }
        }
    }

    async fn replace(&mut self, at: usize, disk_is_lost: bool) {
        if disk_is_lost {
            self.faults.lose_disk(at).await;
            sleep(self.between(FAULT_MS)).await;
        }
        self.remove(at).await;
        sleep(self.between(FAULT_MS)).await;
        let id = self.add(at, false).await;
        self.until_it_votes(id, true).await;
    }

    async fn add_and_remove(&mut self) {
        let id = self.add(SPARE, true).await;
        self.until_it_votes(id, self.load.members[SPARE].promotes_itself()).await;
        sleep(self.between(FAULT_MS)).await;
        self.remove(SPARE).await;
    }

    /// Removes the member and its data.
    async fn remove(&mut self, at: usize) {
        let Some(id) = self.load.members[at].leave() else { return };
        while self.view().is_none_or(|view| view.members.contains_key(&id)) {
            self.ask(MemberChange::Remove { id }).await;
        }
        self.load.members[at].forget();
        self.faults.wipe(at);
    }

    /// Adds a member and starts it; returns its id.
    async fn add(&mut self, at: usize, learner: bool) -> u64 {
        let address = peer_address(at as u64 + 1);
        let id = loop {
            let view = self.view();
            let listed = view.iter().flat_map(|view| &view.members).find(|(_, info)| info.peer_address == address);
            if let Some((id, _)) = listed {
                break *id;
            }
            let (peer_urls, peer_address) = (vec![format!("http://{address}")], address.clone());
            self.ask(MemberChange::Add { peer_urls, peer_address, learner }).await;
        };
        self.load.members[at].join(id);
        self.faults.start(at);
        id
    }

    async fn until_it_votes(&mut self, id: u64, by_itself: bool) {
        while self.view().is_none_or(|view| !view.voters.contains(&id)) {
            match by_itself {
                true => sleep(LOOK_INTERVAL).await,
                false => self.ask(MemberChange::Promote { id }).await,
            }
        }
    }

    /// Asks some member for a change. What became of it is seen in the membership.
    async fn ask(&mut self, change: MemberChange) {
        let answer = self.client.change_members(change.clone()).await;
        self.load.hash.add(&format!("{change:?}: {answer:?}"));
        if answer.is_err() {
            self.client.go_on();
        }
        sleep(LOOK_INTERVAL).await;
    }

    /// The committed membership as a leader sees it; `None` if there is none, or only an older one than was seen.
    fn view(&mut self) -> Option<RaftStatus> {
        let up = self.load.members.iter().filter(|member| member.is_up());
        let views = up.filter_map(|member| Some(member.life()?.node.status()));
        let leading = views.filter(|view| view.is_leader() && view.membership_index <= view.committed);
        let newest = leading.max_by_key(|view| view.term)?;
        if newest.membership_index < self.seen_index {
            return None;
        }
        self.seen_index = newest.membership_index;
        Some(newest)
    }

    fn between(&self, bounds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(bounds.start + self.random.below(bounds.end - bounds.start))
    }
}
