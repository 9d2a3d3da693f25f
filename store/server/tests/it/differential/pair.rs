//! A real etcd and this store, driven in step.

use std::collections::BTreeMap;

use keelstone_etcd_api::{mvccpb, pb};

use super::{program::Step, target::Target, watching::Watching};
use crate::{
    common::{etcd::Etcd, put, Cluster},
    requests::{delete, Call},
};

/// Where the two may differ, and why.
///
/// | what | why |
/// |---|---|
/// | events a response carries | only their order counts, and that a revision's events come together |
/// | previous value of an event whose revision was compacted | etcd leaves it out; here the watch still has it, or ends |
/// | reason of a watch that a compaction ended | etcd gives the compact revision alone |
/// | remaining seconds of a lease | time passes |
pub struct Pair {
    _etcd: Etcd,
    ours: Option<Cluster>,
    pub theirs: Target,
    pub own: Target,
}

/// The watches of one program.
struct Watches {
    theirs: Watching,
    own: Watching,
    requests: BTreeMap<i64, pb::WatchCreateRequest>,
}

impl Pair {
    /// `None` if there is no etcd.
    pub async fn start() -> Option<Self> {
        let etcd = Etcd::start_newest(1).await?;
        let ours = Cluster::start(1).await;
        let (theirs, own) = (Target::new(&etcd.endpoints[0]), Target::new(&ours.endpoints()[0]));
        Some(Self { _etcd: etcd, ours: Some(ours), theirs, own })
    }

    pub async fn stop(mut self) {
        if let Some(ours) = self.ours.take() {
            ours.stop_all().await;
        }
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
            theirs: Watching::open(self.theirs.channel.clone()).await,
            own: Watching::open(self.own.channel.clone()).await,
            requests: BTreeMap::new(),
        };
        for step in program {
            match step.at(self.own.revision) {
                // What a watch that lags has not said yet may be compacted away: who is faster is not compared.
                Step::Call(call @ Call::Compact(_)) => {
                    self.settle(&mut watches).await?;
                    let call = match Step::Call(call).at(self.own.revision) {
                        Step::Call(call) => call,
                        _ => continue,
                    };
                    self.compare(&call).await?;
                }
                Step::Call(call) => self.compare(&call).await?,
                Step::Watch(request) => watches.create(request).await?,
                Step::Cancel(index) => watches.cancel(index).await?,
            }
        }
        self.settle(&mut watches).await?;
        watches.compare()?;
        for lease in [7, 8, 99] {
            self.compare(&Call::Revoke(pb::LeaseRevokeRequest { id: lease })).await?;
        }
        self.compare(&Call::DeleteRange(delete("\0", "\0"))).await
    }

    /// Lets every watch say all that has happened: the last event of each is made here.
    async fn settle(&mut self, watches: &mut Watches) -> Result<(), String> {
        for (id, request) in watches.requests.clone() {
            let (theirs, own) = (watches.theirs.live().contains(&id), watches.own.live().contains(&id));
            if !theirs || !own {
                // One has ended: the other must end as well.
                let end = i64::MAX;
                tokio::try_join!(watches.theirs.reach(id, end), watches.own.reach(id, end))?;
                continue;
            }
            // One that waits for the future, or that watches nothing, has nothing to say yet.
            let empty =
                !request.range_end.is_empty() && request.range_end[..] != [0] && request.key >= request.range_end;
            let text = String::from_utf8(request.key.to_vec()).unwrap();
            self.compare(&Call::Put(put(&text, "end"))).await?;
            let written = self.own.revision;
            self.compare(&Call::DeleteRange(delete(&text, ""))).await?;
            let last = if request.filters.contains(&1) { written } else { self.own.revision };
            if !empty && last >= request.start_revision {
                tokio::try_join!(watches.theirs.reach(id, last), watches.own.reach(id, last))?;
            }
        }
        Ok(())
    }
}

impl Watches {
    async fn create(&mut self, mut request: pb::WatchCreateRequest) -> Result<(), String> {
        let empty = !request.range_end.is_empty() && request.range_end[..] != [0] && request.key >= request.range_end;
        if empty {
            // Both refuse such a one with the id -1; the table of requests has it.
            return Ok(());
        }
        request.watch_id = i64::try_from(self.requests.len()).unwrap() + 1;
        self.requests.insert(request.watch_id, request.clone());
        tokio::try_join!(self.theirs.create(request.clone()), self.own.create(request)).map(drop)
    }

    async fn cancel(&mut self, index: usize) -> Result<(), String> {
        // A watch that a compaction ends may not have said so yet; only one of the two cancels is compared then.
        let live: Vec<i64> = self.own.live().into_iter().filter(|id| self.theirs.live().contains(id)).collect();
        let Some(id) = live.get(index % live.len().max(1)).copied() else { return Ok(()) };
        if self.requests[&id].start_revision > 0 {
            return Ok(());
        }
        tokio::try_join!(self.theirs.cancel(id), self.own.cancel(id)).map(drop)
    }

    fn compare(&self) -> Result<(), String> {
        for (id, request) in &self.requests {
            let (expected, found) = (self.theirs.said.get(id).cloned(), self.own.said.get(id).cloned());
            let (expected, found) = (expected.unwrap_or_default(), found.unwrap_or_default());
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
    let prev_equal = expected.prev_kv.is_none() || expected.prev_kv == found.prev_kv;
    expected.r#type == found.r#type && expected.kv == found.kv && prev_equal
}

fn same_end(expected: &Option<(i64, String)>, found: &Option<(i64, String)>) -> bool {
    match (expected, found) {
        (Some((expected, _)), Some((found, _))) if *expected != 0 => expected == found,
        _ => expected == found,
    }
}
