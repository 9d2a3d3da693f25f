//! A real etcd and this store, driven in step.

use std::collections::{BTreeMap, BTreeSet};

use keelstone_etcd_api::{
    mvccpb::{self, event::EventType},
    pb,
};

use super::{program::Step, target::Target, watching::Watching};
use crate::{
    common::{etcd::Etcd, put, Cluster},
    requests::{delete, Call},
};

/// Where the two may differ, and why.
///
/// | what | why |
/// |---|---|
/// | deletions at the compacted revision | etcd 3.5.1 has lost them for watches from there (its issues 18089, 19179) |
/// | events a response carries | only their order counts, and that a revision's events come together |
/// | previous value of an event whose revision was compacted | etcd leaves it out; here the watch still has it, or ends |
/// | previous value of a key's second event in one revision | the value before the revision in etcd; before the event here, as the API says |
/// | a transaction that deletes a key and puts it with `ignore_value` or `ignore_lease` | etcd ends with a panic, at each start again; here there is no value or lease to keep |
/// | reason of a watch that a compaction ended | etcd gives the compact revision alone |
/// | remaining seconds of a lease | time passes |
pub struct Pair {
    etcd: Etcd,
    ours: Option<Cluster>,
    pub theirs: Target,
    pub own: Target,
    /// Revisions at which programs asked for a compaction.
    compacted: BTreeSet<i64>,
}

/// The watches of one program.
struct Watches {
    theirs: Watching,
    own: Watching,
    requests: BTreeMap<i64, pb::WatchCreateRequest>,
    /// Up to which revision each watch has said all, unless it has ended.
    settled: BTreeMap<i64, i64>,
}

impl Pair {
    /// `None` if there is no etcd.
    pub async fn start() -> Option<Self> {
        let etcd = Etcd::start_newest(1).await?;
        let ours = Cluster::start(1).await;
        let (theirs, own) = (Target::new(&etcd.endpoints[0]), Target::new(&ours.endpoints()[0]));
        Some(Self { etcd, ours: Some(ours), theirs, own, compacted: BTreeSet::new() })
    }

    pub async fn stop(mut self) {
        if let Some(ours) = self.ours.take() {
            ours.stop_all().await;
        }
    }

    /// Whether etcd has ended by itself.
    pub fn etcd_has_ended(&mut self) -> bool {
        self.etcd.has_ended()
    }

    /// Makes a call on both.
    pub async fn compare(&mut self, call: &Call) -> Result<(), String> {
        let (expected, found) = tokio::join!(self.theirs.run(call), self.own.run(call));
        if expected == found {
            return Ok(());
        }
        let short = |text: &str| text.chars().take(900).collect::<String>();
        let call = short(&format!("{call:?}"));
        Err(format!("{call}\n  etcd: {}\n  ours: {}\n", short(&expected), short(&found)))
    }

    /// Runs a program on both and leaves both empty.
    pub async fn run(&mut self, program: &[Step]) -> Result<(), String> {
        let mut watches = Watches {
            theirs: Watching::new(self.theirs.channel.clone()),
            own: Watching::new(self.own.channel.clone()),
            requests: BTreeMap::new(),
            settled: BTreeMap::new(),
        };
        for step in program {
            match step.at(self.own.revision) {
                // What a watch that lags has not said yet may be compacted away: who is faster is not compared.
                Step::Call(call @ Call::Compact(_)) => {
                    self.settle(&mut watches).await?;
                    if let Call::Compact(request) = &call {
                        self.compacted.insert(request.revision);
                    }
                    self.compare(&call).await?;
                }
                Step::Call(call) => self.compare(&call).await?,
                Step::Watch(request) => watches.create(request, &self.compacted).await?,
                Step::Cancel(index) => self.cancel(&mut watches, index).await?,
            }
        }
        self.settle(&mut watches).await?;
        watches.compare(&self.compacted)?;
        for lease in [7, 8, 99] {
            self.compare(&Call::Revoke(pb::LeaseRevokeRequest { id: lease })).await?;
        }
        self.compare(&Call::DeleteRange(delete("\0", "\0"))).await
    }

    /// Lets every watch say all that has happened.
    async fn settle(&mut self, watches: &mut Watches) -> Result<(), String> {
        for id in watches.requests.keys().copied().collect::<Vec<_>>() {
            self.settle_one(watches, id).await?;
        }
        Ok(())
    }

    /// Makes a last event for a watch and waits for it on both. What the watch says of later ones is not compared.
    async fn settle_one(&mut self, watches: &mut Watches, id: i64) -> Result<(), String> {
        if !watches.are_live(id) {
            // One has ended: the other must end as well.
            return watches.reach(id, i64::MAX).await;
        }
        let request = watches.requests[&id].clone();
        let key = String::from_utf8(request.key.to_vec()).unwrap();
        self.compare(&Call::Put(put(&key, "end"))).await?;
        let written = self.own.revision;
        self.compare(&Call::DeleteRange(delete(&key, ""))).await?;
        let last = if request.filters.contains(&1) { written } else { self.own.revision };
        watches.settled.insert(id, last);
        // One that waits for the future has nothing to say yet.
        match last >= request.start_revision {
            true => watches.reach(id, last).await,
            false => Ok(()),
        }
    }

    /// Cancels one of the live watches, counted around.
    async fn cancel(&mut self, watches: &mut Watches, index: usize) -> Result<(), String> {
        let live: Vec<i64> = watches.requests.keys().copied().filter(|id| watches.are_live(*id)).collect();
        let Some(id) = live.get(index % live.len().max(1)).copied() else { return Ok(()) };
        // What it has not said yet would be lost on one of them or on both.
        self.settle_one(watches, id).await?;
        match watches.are_live(id) {
            true => tokio::try_join!(watches.theirs.cancel(id), watches.own.cancel(id)).map(drop),
            false => Ok(()),
        }
    }
}

impl Watches {
    async fn create(&mut self, mut request: pb::WatchCreateRequest, compacted: &BTreeSet<i64>) -> Result<(), String> {
        let empty = !request.range_end.is_empty() && request.range_end[..] != [0] && request.key >= request.range_end;
        if empty {
            // Both refuse such a one with the id -1; the table of requests has it.
            return Ok(());
        }
        // A previous value before the compacted revision: etcd leaves it out, here the watch may end.
        request.prev_kv &= compacted.last().is_none_or(|compacted| request.start_revision > *compacted);
        request.watch_id = i64::try_from(self.requests.len()).unwrap() + 1;
        self.requests.insert(request.watch_id, request.clone());
        tokio::try_join!(self.theirs.create(request.clone()), self.own.create(request)).map(drop)
    }

    /// On both, as far as they have said.
    fn are_live(&self, id: i64) -> bool {
        self.theirs.live().contains(&id) && self.own.live().contains(&id)
    }

    async fn reach(&mut self, id: i64, revision: i64) -> Result<(), String> {
        tokio::try_join!(self.theirs.reach(id, revision), self.own.reach(id, revision)).map(drop)
    }

    fn compare(&self, compacted: &BTreeSet<i64>) -> Result<(), String> {
        for (id, request) in &self.requests {
            let (expected, found) = (self.theirs.said.get(id).cloned(), self.own.said.get(id).cloned());
            let (mut expected, mut found) = (expected.unwrap_or_default(), found.unwrap_or_default());
            let settled = self.settled.get(id).copied().unwrap_or(i64::MAX);
            let compared = |event: &mvccpb::Event| {
                let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                let lost = event.r#type() == EventType::Delete && compacted.contains(&at);
                at <= settled && !lost
            };
            expected.events.retain(compared);
            found.events.retain(compared);
            if let Some(revision) = found.torn {
                return Err(format!("{request:?}: the events of revision {revision} came apart"));
            }
            let same = expected.events.len() == found.events.len()
                && expected.events.iter().zip(&found.events).all(|(expected, found)| same_event(expected, found))
                && same_end(&expected.ended, &found.ended);
            if !same {
                return Err(format!("{request:?}\n  etcd: {expected:?}\n  ours: {found:?}\n"));
            }
        }
        Ok(())
    }
}

fn same_event(expected: &mvccpb::Event, found: &mvccpb::Event) -> bool {
    let at = |kv: &Option<mvccpb::KeyValue>| kv.as_ref().map(|kv| kv.mod_revision);
    let second = found.prev_kv.is_some() && at(&found.prev_kv) == at(&found.kv);
    let prev_equal = expected.prev_kv.is_none() || second || expected.prev_kv == found.prev_kv;
    expected.r#type == found.r#type && expected.kv == found.kv && prev_equal
}

fn same_end(expected: &Option<(i64, String)>, found: &Option<(i64, String)>) -> bool {
    match (expected, found) {
        (Some((expected, _)), Some((found, _))) if *expected != 0 => expected == found,
        _ => expected == found,
    }
}
