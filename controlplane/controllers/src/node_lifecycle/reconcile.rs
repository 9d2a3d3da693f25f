use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{future::BoxFuture, stream, FutureExt, StreamExt};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use keelstone_client::{
    CancellationToken, Client, ClientError, ClientResult, EventRecorder, EventType, Object, ObjectRef, Patch,
    PatchOptions, Store, StoreEvent,
};
use keelstone_env::fault::{self, Point};
use keelstone_runtime::SharedInformers;
use serde_json::{json, Value};
use tokio::time::Instant;

use super::{
    plan::{self, Eviction, Ready},
    zones::{self, Count, Limiter, Rates, State},
};
use crate::{
    common::{clock, pods},
    constants::REQUESTS_PER_KEY_MAX,
};

/// The namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";

#[derive(Clone, Debug, PartialEq)]
pub struct NodeLifecycleConfig {
    /// All nodes are looked at this often.
    pub monitor_period: Duration,
    /// A node without a sign of life for this long is unreachable.
    pub grace_period: Duration,
    /// The same, for a node that has never reported.
    pub startup_grace_period: Duration,
    pub rates: Rates,
}

impl Default for NodeLifecycleConfig {
    fn default() -> Self {
        Self {
            monitor_period: Duration::from_secs(5),
            grace_period: Duration::from_secs(50),
            startup_grace_period: Duration::from_secs(60),
            rates: Rates::default(),
        }
    }
}

/// The newest signs of life of a node, and when THIS process saw them change. The times that nodes write are
/// never compared with any clock.
struct Seen {
    lease: String,
    heartbeat: Value,
    at: Instant,
}

/// Watches over nodes: leases and status reports keep them ready.
pub struct NodeLifecycle {
    client: Client,
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods: Store<Pod>,
    config: NodeLifecycleConfig,
    events: EventRecorder,
    seen: BTreeMap<String, Seen>,
    limiters: BTreeMap<String, Limiter>,
    suspended: bool,
}

impl NodeLifecycle {
    pub fn new(client: &Client, informers: &SharedInformers, config: NodeLifecycleConfig) -> Self {
        let client = client.named("node-controller");
        let pods = informers.store::<Pod>();
        pods::add_indexes(&pods);
        Self {
            events: EventRecorder::new(&client, "node-controller", ""),
            nodes: informers.store(),
            leases: informers.store(),
            pods,
            config,
            seen: BTreeMap::new(),
            limiters: BTreeMap::new(),
            suspended: false,
            client,
        }
    }

    /// Runs until `stop`; dropping the future stops at once.
    pub async fn run(mut self, stop: &CancellationToken) {
        futures::join!(self.nodes.wait_synced(), self.leases.wait_synced(), self.pods.wait_synced());
        let mut changes = self.nodes.subscribe();
        let mut ticks = tokio::time::interval(self.config.monitor_period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.monitor().await,
                change = changes.next() => match change {
                    StoreEvent::Added(node) => self.node_changed(None, &node).await,
                    StoreEvent::Updated { old, new } => self.node_changed(Some(&old), &new).await,
                    StoreEvent::Deleted(_) | StoreEvent::Resync => {}
                },
            }
        }
    }

    /// What follows from a node's own report at once; everything else waits for the next look at all.
    async fn node_changed(&mut self, old: Option<&Node>, node: &Node) {
        let newest = self.nodes.get(node.name());
        if newest.is_none_or(|newest| newest.resource_version() != node.resource_version()) {
            return;
        }
        if wants_eviction(node) {
            // Whether it may be depends on all others.
            self.evict().await;
        } else {
            let eviction = if self.suspended { Eviction::Suspended } else { Eviction::Hold };
            self.write_taints(node, eviction).await;
        }
        let was_ready = old.is_some_and(|old| plan::ready(old) == Ready::True);
        if was_ready && plan::ready(node) == Ready::False {
            self.mark_pods(node).await;
        }
    }

    /// Looks at all nodes.
    async fn monitor(&mut self) {
        fault::pause(Point::NodeMonitor).await;
        let nodes = self.nodes.list();
        let present: BTreeSet<&str> = nodes.iter().map(|node| node.name()).collect();
        self.seen.retain(|name, _| present.contains(name.as_str()));
        let silent: Vec<Arc<Node>> = nodes.iter().filter(|node| self.is_silent(node)).cloned().collect();
        let mut checks: Vec<BoxFuture<'_, _>> = Vec::new();
        for node in &silent {
            checks.push(self.lost(node).map(move |lost| (lost, node)).boxed());
        }
        let checked: Vec<_> = stream::iter(checks).buffer_unordered(REQUESTS_PER_KEY_MAX).collect().await;
        for (lost, node) in checked {
            match lost {
                Ok(None) => {}
                Ok(Some(seen)) => drop(self.seen.insert(node.name().to_owned(), seen)),
                Err(error) => self.log(node, "could not mark the node as unreachable", &error),
            }
        }
        self.evict().await;
    }

    /// Whether the node has given no new sign of life for its grace period.
    fn is_silent(&mut self, node: &Node) -> bool {
        let now = self.client.env().now();
        let lease = self.leases.get_in(LEASES, node.name());
        let newest = signs(node, lease.as_deref(), now);
        let seen = self.seen.entry(node.name().to_owned()).or_insert_with(|| signs(node, lease.as_deref(), now));
        if seen.lease != newest.lease || seen.heartbeat != newest.heartbeat {
            *seen = newest;
        }
        let grace = match plan::ready(node) {
            Ready::Missing => self.config.startup_grace_period,
            _ => self.config.grace_period,
        };
        now > seen.at + grace
    }

    /// Marks a silent node, unless its lease or status, read past the cache, shows that it lives; those newer
    /// signs are returned then.
    async fn lost(&self, node: &Node) -> ClientResult<Option<Seen>> {
        if plan::unknown_status(node, clock::now(self.client.env())).is_some() {
            let live = self.client.resource::<Node>().get_opt(node.name()).await?;
            let lease = self.client.namespaced::<Lease>(LEASES).get_opt(node.name()).await?;
            let Some(live) = live.filter(|live| live.uid() == node.uid()) else { return Ok(None) };
            let newest = signs(&live, lease.as_ref(), self.client.env().now());
            let known = self.seen.get(node.name());
            if known.is_none_or(|seen| seen.lease != newest.lease || seen.heartbeat != newest.heartbeat) {
                return Ok(Some(newest));
            }
            self.mark_unknown(&live).await?;
        }
        self.mark_pods(node).await;
        Ok(None)
    }

    async fn mark_unknown(&self, node: &Node) -> ClientResult<()> {
        let Some(status) = plan::unknown_status(node, clock::now(self.client.env())) else { return Ok(()) };
        let was_ready = plan::ready(node) == Ready::True;
        let changed = Node { status: Some(status), ..node.clone() };
        self.client.resource::<Node>().update_status(&changed).await?;
        if was_ready {
            tracing::info!(node = node.name(), "the node has stopped reporting");
            let text = format!("Node {} status is now: NodeNotReady", node.name());
            // As in Kubernetes, events about nodes carry the name in place of the uid.
            let about = ObjectRef { uid: node.name().to_owned(), namespace: String::new(), ..ObjectRef::of(node) };
            self.events.event(&about, EventType::Normal, "NodeNotReady", text);
        }
        Ok(())
    }

    /// The ready pods of a node that is not are not ready either, so that nothing is sent to them.
    async fn mark_pods(&self, node: &Node) {
        let now = clock::now(self.client.env());
        let pods = self.pods.by_index(pods::BY_NODE, node.name());
        let changed = pods.iter().filter_map(|pod| plan::not_ready(pod, now));
        let calls: Vec<_> = changed.map(|pod| self.mark_pod(pod).boxed()).collect();
        stream::iter(calls).buffer_unordered(REQUESTS_PER_KEY_MAX).collect::<()>().await;
    }

    async fn mark_pod(&self, pod: Pod) {
        match self.client.resource::<Pod>().update_status(&pod).await {
            Ok(_) => self.events.warning(&pod, "NodeNotReady", "Node is not ready"),
            Err(error) if error.is_not_found() => {}
            Err(error) => tracing::info!(pod = pod.key(), %error, "could not mark a pod as not ready"),
        }
    }

    /// Taints nodes for eviction, no faster than the rates of their zones allow.
    async fn evict(&mut self) {
        let nodes = self.nodes.list();
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        for node in &nodes {
            let count = counts.entry(zones::of(node)).or_default();
            match plan::ready(node) {
                Ready::True => count.ready += 1,
                _ => count.not_ready += 1,
            }
        }
        let rates = self.config.rates.clone();
        let suspended = !counts.is_empty() && counts.values().all(|count| count.state(&rates) == State::Full);
        if suspended != self.suspended {
            tracing::info!(suspended, "no node is ready: evictions are suspended while that is so");
            self.suspended = suspended;
            if !suspended {
                // Whoever was cut off has had no chance to report.
                let now = self.client.env().now();
                self.seen.values_mut().for_each(|seen| seen.at = now);
            }
        }
        let now = self.client.env().now();
        for node in nodes {
            let zone = zones::of(&node);
            let eviction = if suspended {
                Eviction::Suspended
            } else if wants_eviction(&node) {
                let rate = counts.get(&zone).map_or(0.0, |count| count.rate(&rates));
                match self.limiters.entry(zone).or_default().allow(now, rate) {
                    true => Eviction::Allowed,
                    false => Eviction::Hold,
                }
            } else {
                Eviction::Hold
            };
            self.write_taints(&node, eviction).await;
        }
    }

    async fn write_taints(&self, node: &Node, eviction: Eviction) {
        let Some(taints) = plan::taints(node, eviction, clock::now(self.client.env())) else { return };
        let taints = if taints.is_empty() { Value::Null } else { json!(taints) };
        let patch = Patch::Merge(json!({
            "metadata": {"uid": node.uid(), "resourceVersion": node.resource_version()}, "spec": {"taints": taints},
        }));
        match self.client.resource::<Node>().patch(node.name(), &patch, &PatchOptions::default()).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => self.log(node, "could not taint the node", &error),
        }
    }

    fn log(&self, node: &Node, what: &str, error: &ClientError) {
        tracing::info!(node = node.name(), %error, "{what}");
    }
}

/// A node that is to be tainted with NoExecute and is not yet.
fn wants_eviction(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let has = |key: &str| taints.into_iter().flatten().any(|t| t.key == key && t.effect == plan::NO_EXECUTE);
    plan::eviction_taint(node).is_some() && !has(plan::NOT_READY) && !has(plan::UNREACHABLE)
}

/// What changes whenever a node reports. Writes of others to its status do not: a heartbeat has a time of its own.
fn signs(node: &Node, lease: Option<&Lease>, at: Instant) -> Seen {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let heartbeat = conditions.map(|condition| json!([condition.type_, condition.last_heartbeat_time])).collect();
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
    let lease = renewed.map(|time| time.0.to_string()).unwrap_or_default();
    Seen { lease, heartbeat, at }
}
