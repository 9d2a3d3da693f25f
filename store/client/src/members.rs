use std::{
    collections::BTreeSet,
    io,
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        Arc, Weak,
    },
    time::Duration,
};

use futures::future::join_all;
use keelstone_env::{channel, ChannelOptions, Env};
use keelstone_etcd_api::pb::{self, maintenance_client::MaintenanceClient};
use tokio::{sync::watch, time::timeout};
use tonic::{transport::Channel, Request};

use crate::constants::*;

/// Which members a call goes to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    /// What must pass through the log: no second hop.
    Leader,
    /// In turns, so that reads burden all members alike.
    Any,
    /// Always the same one while it answers: what is read there may be stale, but never goes back.
    First,
}

/// One member, and what is known about it.
pub(crate) struct Member {
    pub address: String,
    pub channel: Channel,
    /// True while it does not answer.
    down: watch::Sender<bool>,
}

/// All members, and which of them leads.
pub(crate) struct Members {
    list: Vec<Member>,
    /// Index of the leader; beyond the list while unknown.
    leader: AtomicUsize,
    turn: AtomicUsize,
}

impl Member {
    pub fn set_down(&self, down: bool) {
        self.down.send_if_modified(|known| std::mem::replace(known, down) != down);
    }

    pub fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// Tells changes of [`Member::is_down`].
    pub fn down_watch(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    /// Asks the member for what it knows by itself; `None` if it does not answer in time.
    pub async fn probe(&self) -> Option<pb::StatusResponse> {
        let mut request = Request::new(pb::StatusRequest {});
        let time_max = Duration::from_millis(PROBE_MS_MAX);
        request.set_timeout(time_max);
        let mut client = MaintenanceClient::new(self.channel.clone());
        Some(timeout(time_max, client.status(request)).await.ok()?.ok()?.into_inner())
    }
}

impl Members {
    pub fn new(env: &Env, addresses: &[String], options: &ChannelOptions) -> io::Result<Self> {
        let member = |address: &String| {
            let channel = channel(env, address, options.clone())?;
            Ok(Member { address: address.clone(), channel, down: watch::Sender::new(false) })
        };
        let list = addresses.iter().map(member).collect::<io::Result<_>>()?;
        Ok(Self { list, leader: AtomicUsize::new(usize::MAX), turn: AtomicUsize::new(0) })
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn get(&self, index: usize) -> &Member {
        &self.list[index % self.list.len()]
    }

    /// The member for the next attempt: one that answers before one that does not, none twice while another is left.
    pub fn choose(&self, prefer: Prefer, tried: &BTreeSet<usize>) -> usize {
        let count = self.list.len();
        let first = match prefer {
            Prefer::First => 0,
            Prefer::Any => self.turn.fetch_add(1, Relaxed) % count,
            Prefer::Leader => Some(self.leader.load(Relaxed)).filter(|index| *index < count).unwrap_or(0),
        };
        let in_turn = || (0..count).map(|step| (first + step) % count).filter(|index| !tried.contains(index));
        let answering = in_turn().find(|index| !self.list[*index].is_down());
        answering.or_else(|| in_turn().next()).unwrap_or(first)
    }

    /// Looks at all members from time to time, for as long as somebody holds them.
    pub async fn watch_over(members: Weak<Self>) {
        loop {
            let Some(all) = members.upgrade() else { return };
            all.probe_all().await;
            drop(all);
            tokio::time::sleep(Duration::from_millis(PROBE_INTERVAL_MS)).await;
        }
    }

    async fn probe_all(self: &Arc<Self>) {
        let answers = join_all(self.list.iter().map(Member::probe)).await;
        for (member, answer) in self.list.iter().zip(&answers) {
            let silent = answer.is_none();
            // One late answer may be a burden; two in a row are not.
            let again = silent && !member.is_down() && member.probe().await.is_none();
            member.set_down(silent && (again || member.is_down()));
        }
        let leaders = answers.iter().flatten().map(|status| status.leader).find(|leader| *leader != 0);
        let leads = |status: &pb::StatusResponse| {
            status.header.as_ref().is_some_and(|header| Some(header.member_id) == leaders)
        };
        let index = answers.iter().position(|answer| answer.as_ref().is_some_and(leads));
        self.leader.store(index.unwrap_or(usize::MAX), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Members {
        let addresses = ["h:1", "h:2", "h:3"].map(str::to_owned);
        Members::new(&Env::os(), &addresses, &ChannelOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn writes_go_to_the_leader_and_reads_to_all_in_turn() {
        let members = three();
        let none = BTreeSet::new();
        assert_eq!(members.choose(Prefer::Leader, &none), 0);
        members.leader.store(2, Relaxed);
        assert_eq!(members.choose(Prefer::Leader, &none), 2);
        assert_eq!(members.choose(Prefer::Leader, &BTreeSet::from([2])), 0);
        let turns: BTreeSet<usize> = (0..3).map(|_| members.choose(Prefer::Any, &none)).collect();
        assert_eq!(turns.len(), 3);
        assert_eq!([(); 3].map(|()| members.choose(Prefer::First, &none)), [0, 0, 0]);
    }

    #[tokio::test]
    async fn a_silent_member_is_the_last_choice() {
        let members = three();
        members.get(0).set_down(true);
        assert_eq!(members.choose(Prefer::First, &BTreeSet::new()), 1);
        assert_eq!(members.choose(Prefer::First, &BTreeSet::from([1, 2])), 0);
        // Everybody was tried: it begins again.
        assert_eq!(members.choose(Prefer::First, &BTreeSet::from([0, 1, 2])), 0);
    }
}
