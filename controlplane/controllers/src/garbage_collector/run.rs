use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use futures::{
    future::{join_all, BoxFuture},
    stream::FuturesUnordered,
    FutureExt, StreamExt,
};
use keelstone_client::{CancellationToken, Client, DynamicObject, Object, StoreEvent};
use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point},
};
use keelstone_machinery::gvk::GroupVersionResource;
use keelstone_runtime::{ReconcileError, SharedInformers, WorkQueue};
use tokio::time::{sleep, timeout};

use super::{
    collector::Collector,
    graph::{Graph, Kind},
    plan,
};
use crate::{
    common::discovery::{self, ServedResource},
    constants::{COLLECTOR_WORKERS, DISCOVERY_S, SYNC_S_MAX},
};

/// Follows every kind that the API serves and collects what nobody owns any more.
pub struct GarbageCollector {
    informers: SharedInformers,
    collector: Collector,
}

impl GarbageCollector {
    pub fn new(client: &Client, informers: &SharedInformers) -> Self {
        let client = client.named("generic-garbage-collector");
        let queue = WorkQueue::new(client.env());
        let collector = Collector { client, graph: Graph::default(), queue, absent: Mutex::default() };
        Self { informers: informers.clone(), collector }
    }

    /// Runs until `stop`; dropping the future stops at once.
    pub async fn run(self, stop: &CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        let mut followed: BTreeMap<GroupVersionResource, CancellationToken> = BTreeMap::new();
        let mut pumps: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        // Never ends, so that there is always something to poll.
        pumps.push(std::future::pending().boxed());
        while let Err(error) = self.refresh(&mut followed, &mut pumps).await {
            tracing::info!(%error, "the resources to collect cannot be discovered yet");
            sleep(Duration::from_secs(1)).await;
        }
        let synced = join_all(self.collector.graph.kinds().into_iter().map(|kind| async move {
            kind.store.wait_synced().await;
        }));
        // Caches only say what to look at, so that a missing one delays collection and does no harm.
        let cold = bug::planted(Bug::CollectorColdCache);
        if !cold && timeout(Duration::from_secs(SYNC_S_MAX), synced).await.is_err() {
            tracing::info!("not all resources could be listed; collecting begins without them");
        }
        let workers = join_all((0..COLLECTOR_WORKERS).map(|_| self.worker()));
        let follow = async {
            loop {
                tokio::select! {
                    biased;
                    _ = pumps.next() => {}
                    () = sleep(Duration::from_secs(DISCOVERY_S)) => {
                        if let Err(error) = self.refresh(&mut followed, &mut pumps).await {
                            tracing::info!(%error, "the resources to collect cannot be discovered");
                        }
                    }
                }
            }
        };
        futures::join!(workers, follow);
    }

    /// Starts to follow kinds that are new, and stops with those that are gone.
    async fn refresh<'a>(
        &'a self,
        followed: &mut BTreeMap<GroupVersionResource, CancellationToken>,
        pumps: &mut FuturesUnordered<BoxFuture<'a, ()>>,
    ) -> Result<(), ReconcileError> {
        let served = discovery::served(&self.collector.client).await?;
        let wanted: Vec<ServedResource> = served.resources.into_iter().filter(is_collectable).collect();
        // Of groups that did not answer nothing is known: what was followed stays.
        if served.failed.is_empty() {
            let names: BTreeSet<_> = wanted.iter().map(|resource| resource.gvr.clone()).collect();
            followed.retain(|resource, stop| {
                let stays = names.contains(resource);
                if !stays {
                    stop.cancel();
                    self.collector.graph.remove(resource);
                    self.informers.stop_dynamic(resource);
                }
                stays
            });
        }
        for resource in wanted {
            if !followed.contains_key(&resource.gvr) {
                let stop = CancellationToken::new();
                followed.insert(resource.gvr.clone(), stop.clone());
                let store = self.informers.dynamic(&resource.gvr);
                let kind = self.collector.graph.add(resource, store);
                pumps.push(self.pump(kind, stop).boxed());
            }
        }
        Ok(())
    }

    async fn worker(&self) {
        let queue = &self.collector.queue;
        while let Some(key) = queue.get().await {
            fault::pause(Point::GarbageDelete).await;
            match self.collector.collect(&key).await {
                Ok(()) => queue.forget(&key),
                Err(error) => {
                    tracing::debug!(key, %error, "will be looked at again");
                    queue.add_rate_limited(key.as_str());
                }
            }
            queue.done(&key);
            if queue.take_overflow() {
                self.consider_all();
            }
        }
    }

    async fn pump(&self, kind: Kind, stop: CancellationToken) {
        kind.store.wait_synced().await;
        let mut changes = kind.store.subscribe();
        let mut first = true;
        loop {
            let change = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                change = changes.next() => change,
            };
            match change {
                StoreEvent::Added(object) => self.consider(&kind, &object),
                StoreEvent::Updated { old, new } => {
                    self.consider(&kind, &new);
                    if plan::owners(&old) != plan::owners(&new) {
                        self.wake_owners(&old);
                    }
                }
                StoreEvent::Deleted(object) => {
                    let dependents = self.collector.graph.dependents(object.uid());
                    dependents.iter().for_each(|(kind, dependent)| self.collector.enqueue(kind, dependent));
                    self.wake_owners(&object);
                }
                // At first all kinds are looked at, each by its own pump.
                StoreEvent::Resync if first => {
                    kind.store.list().iter().for_each(|object| self.consider(&kind, object));
                }
                StoreEvent::Resync => self.consider_all(),
            }
            first = false;
        }
    }

    fn consider_all(&self) {
        for kind in self.collector.graph.kinds() {
            kind.store.list().iter().for_each(|object| self.consider(&kind, object));
        }
    }

    /// Queues an object if there may be something to do about it.
    fn consider(&self, kind: &Kind, object: &DynamicObject) {
        let finalizers = [plan::FOREGROUND, plan::ORPHAN];
        let due = if object.is_terminating() {
            finalizers.iter().any(|finalizer| plan::has_finalizer(object, finalizer))
        } else {
            object.owner_uids().iter().any(|uid| match self.collector.graph.find(uid) {
                None => true,
                Some((_, owner)) => plan::waits_for_dependents(&owner),
            })
        };
        if due {
            self.collector.enqueue(kind, object);
        }
    }

    /// Queues those owners that wait for their dependents to go.
    fn wake_owners(&self, object: &DynamicObject) {
        for uid in object.owner_uids() {
            if let Some((kind, owner)) = self.collector.graph.find(uid) {
                if plan::waits_for_dependents(&owner) {
                    self.collector.enqueue(&kind, &owner);
                }
            }
        }
    }
}

/// Events own nothing, are many, and go by themselves.
fn is_collectable(resource: &ServedResource) -> bool {
    resource.allows(&["get", "list", "watch", "delete"]) && resource.gvr.resource != "events"
}
