use std::sync::Arc;

use futures::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
    FutureExt,
};
use k8s_openapi::{
    api::core::v1::{Namespace, Node, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use keelstone_client::{
    Client, EventRecorder, EventType, Informer, InformerOptions, Object, ObjectRef, Patch, PatchOptions, StoreEvent,
    Subscription,
};
use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point},
};
use keelstone_runtime::LeaderContext;
use serde_json::json;
use tokio::time::{sleep_until, Instant};

use crate::{
    bind::{bind, Outcome},
    cache::Cache,
    constants::{BATCH_PODS_MAX, BINDINGS_MAX},
    framework::Plugin,
    node_info::NodeInfo,
    plugins,
    pod_info::{is_terminal, node_of, PodInfo},
    queue::Queue,
    schedule::{schedule, Decision},
};

/// Which pods this scheduler is responsible for, and its name in events.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Pods with this `spec.schedulerName`.
    pub name: String,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { name: "default-scheduler".into() }
    }
}

/// Assigns pods to nodes until leadership ends. It begins with lists of its own that a quorum confirms, so that
/// what an earlier leader assigned is counted.
pub async fn run(context: LeaderContext, config: SchedulerConfig) {
    let scheduler = Scheduler::start(context.client, config).await;
    tokio::select! {
        biased;
        () = context.stop.cancelled() => {}
        () = scheduler.run() => {}
    }
}

/// A finished piece of work outside the loop.
enum Done {
    Binding { pod: Arc<PodInfo>, node: String, outcome: Outcome },
    Status,
}

struct Scheduler {
    client: Client,
    config: SchedulerConfig,
    recorder: EventRecorder,
    plugins: Vec<Box<dyn Plugin>>,
    cache: Cache,
    queue: Queue,
    pods: Subscription<Pod>,
    nodes: Subscription<Node>,
    namespaces: Subscription<Namespace>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// They stop when they are dropped.
    _informers: (Informer<Pod>, Informer<Node>, Informer<Namespace>),
}

impl Scheduler {
    async fn start(client: Client, config: SchedulerConfig) -> Self {
        let options = InformerOptions::default;
        let pods = Informer::spawn(client.resource::<Pod>(), options());
        let nodes = Informer::spawn(client.resource::<Node>(), options());
        let namespaces = Informer::spawn(client.resource::<Namespace>(), options());
        pods.wait_synced().await;
        nodes.wait_synced().await;
        namespaces.wait_synced().await;
        Self {
            recorder: EventRecorder::new(&client, &config.name, ""),
            plugins: plugins::all(),
            cache: Cache::default(),
            queue: Queue::default(),
            pods: pods.store().subscribe(),
            nodes: nodes.store().subscribe(),
            namespaces: namespaces.store().subscribe(),
            work: FuturesUnordered::new(),
            _informers: (pods, nodes, namespaces),
            client,
            config,
        }
    }

    fn now(&self) -> Instant {
        self.client.env().now()
    }

    async fn run(mut self) {
        loop {
            fault::pause(Point::SchedulerPick).await;
            self.take_changes();
            for _ in 0..BATCH_PODS_MAX {
                if self.work.len() >= BINDINGS_MAX || !self.decide_next() {
                    break;
                }
            }
            let now = self.now();
            if self.work.len() < BINDINGS_MAX && self.queue.has_ready(now) {
                // Others may run, and what finished is taken note of, without waiting.
                tokio::task::yield_now().await;
                while let Some(Some(done)) = self.work.next().now_or_never() {
                    self.finish(done);
                }
                continue;
            }
            let wake = self.queue.next_wake();
            tokio::select! {
                biased;
                Some(done) = self.work.next() => self.finish(done),
                change = self.pods.next() => self.pod_changed(change),
                change = self.nodes.next() => self.node_changed(change),
                change = self.namespaces.next() => self.namespace_changed(change),
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    /// Takes over all changes that there are: a decision is made on the newest state.
    fn take_changes(&mut self) {
        while let Some(change) = self.namespaces.try_next() {
            self.namespace_changed(change);
        }
        while let Some(change) = self.nodes.try_next() {
            self.node_changed(change);
        }
        while let Some(change) = self.pods.try_next() {
            self.pod_changed(change);
        }
    }

    /// Decides on one pod; false if none is waiting.
    fn decide_next(&mut self) -> bool {
        let now = self.now();
        let Some(pod) = self.queue.pop(now) else { return false };
        match schedule(&self.plugins, &self.cache.snapshot, &pod) {
            Decision::Node(node) => {
                self.cache.assume(&pod, &node);
                let binding = bind(self.client.clone(), pod.clone(), node.clone());
                self.work.push(binding.map(move |outcome| Done::Binding { pod, node, outcome }).boxed());
            }
            Decision::Nowhere(message) => {
                self.queue.failed(&pod.key, now);
                self.refuse(&pod, message);
            }
        }
        true
    }

    fn finish(&mut self, done: Done) {
        let Done::Binding { pod, node, outcome } = done else { return };
        match outcome {
            Outcome::Bound => {
                let message =
                    format!("Successfully assigned {}/{} to {node}", pod.namespace(), Object::name(&*pod.pod));
                self.recorder.event(&ObjectRef::of(&*pod.pod), EventType::Normal, "Scheduled", message);
                self.queue.remove(&pod.key);
            }
            Outcome::Settled => {
                self.unassume(&pod);
                self.queue.retry(&pod.key, self.now());
            }
            Outcome::Failed(error) => {
                tracing::info!(pod = %pod.key, node, error, "a binding failed");
                self.unassume(&pod);
                self.queue.retry(&pod.key, self.now());
            }
        }
    }

    /// The room is free again, unless the API says otherwise.
    fn unassume(&mut self, pod: &PodInfo) {
        self.cache.forget(pod);
        if let Some(now) = self.pods.store().get(&pod.key) {
            self.take_pod(&now);
        } else {
            self.queue.remove(&pod.key);
        }
        self.queue.cluster_changed(self.now());
    }

    fn pod_changed(&mut self, change: StoreEvent<Pod>) {
        match change {
            StoreEvent::Added(pod) => self.take_pod(&pod),
            StoreEvent::Updated { old, new } => {
                if old.uid() != new.uid() {
                    self.pod_gone(&old);
                }
                let freed =
                    !node_of(&new).is_empty() && (is_terminal(&new) && !is_terminal(&old) || shrunk(&old, &new));
                self.take_pod(&new);
                if freed {
                    self.queue.cluster_changed(self.now());
                }
            }
            StoreEvent::Deleted(pod) => self.pod_gone(&pod),
            StoreEvent::Resync => {
                let store = self.pods.store().clone();
                let mut known = self.queue.keys();
                known.extend(self.cache.snapshot.placed_keys());
                for key in known.iter().filter(|key| store.get(key).is_none()) {
                    self.cache.remove_pod(key);
                    self.queue.remove(key);
                }
                // Kubernetes 137308 put back: what was bound before this scheduler led is not in its cache.
                let cold = bug::planted(Bug::SchedulerColdCache) && self.cache.snapshot.placed_keys().next().is_none();
                let pods = store.list().into_iter().filter(|pod| !cold || node_of(pod).is_empty());
                pods.for_each(|pod| self.take_pod(&pod));
                self.queue.cluster_changed(self.now());
            }
        }
    }

    fn take_pod(&mut self, pod: &Arc<Pod>) {
        let new_here = !node_of(pod).is_empty() && self.cache.snapshot.node_of_pod(&pod.key()).is_none();
        self.cache.set_pod(pod);
        if self.is_ours(pod) {
            if !self.cache.is_assumed(pod) {
                self.queue.add(Arc::new(PodInfo::new(pod.clone())), self.now());
            }
        } else {
            self.queue.remove(&pod.key());
            if new_here && has_labels(pod) {
                // It may be what another pod wants to be near.
                self.queue.cluster_changed(self.now());
            }
        }
    }

    fn pod_gone(&mut self, pod: &Pod) {
        let key = pod.key();
        self.queue.remove(&key);
        if self.cache.remove_pod(&key) {
            self.queue.cluster_changed(self.now());
        }
    }

    /// The pod waits for this scheduler.
    fn is_ours(&self, pod: &Pod) -> bool {
        let spec = pod.spec.as_ref();
        let scheduler = spec.and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler");
        let gated = spec.and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
        scheduler == self.config.name && node_of(pod).is_empty() && !gated && !is_terminal(pod) && !pod.is_terminating()
    }

    fn node_changed(&mut self, change: StoreEvent<Node>) {
        match change {
            StoreEvent::Added(node) => self.cache.snapshot.set_node(node),
            StoreEvent::Updated { old, new } => {
                self.cache.snapshot.set_node(new.clone());
                if !room_changed(&old, &new) {
                    return;
                }
            }
            StoreEvent::Deleted(node) => self.cache.snapshot.remove_node(node.name()),
            StoreEvent::Resync => {
                let store = self.nodes.store().clone();
                let known: Vec<String> = self.cache.snapshot.nodes().map(|info| info.name.clone()).collect();
                let gone = known.iter().filter(|name| store.get(name).is_none());
                gone.for_each(|name| self.cache.snapshot.remove_node(name));
                store.list().into_iter().for_each(|node| self.cache.snapshot.set_node(node));
            }
        }
        self.queue.cluster_changed(self.now());
    }

    fn namespace_changed(&mut self, change: StoreEvent<Namespace>) {
        let mut set = |namespace: &Namespace| {
            let labels = namespace.metadata.labels.clone().unwrap_or_default();
            self.cache.snapshot.set_namespace(namespace.name(), labels);
        };
        match change {
            StoreEvent::Added(namespace) | StoreEvent::Updated { new: namespace, .. } => set(&namespace),
            StoreEvent::Deleted(namespace) => self.cache.snapshot.remove_namespace(namespace.name()),
            StoreEvent::Resync => self.namespaces.store().list().iter().for_each(|namespace| set(namespace)),
        }
    }

    /// Says, in an event and in the pod's condition, why it has no node.
    fn refuse(&mut self, pod: &PodInfo, message: String) {
        let reference = ObjectRef::of(&*pod.pod);
        self.recorder.event(&reference, EventType::Warning, "FailedScheduling", message.clone());
        let old = pod.pod.status.iter().flat_map(|s| s.conditions.iter().flatten()).find(|c| c.type_ == "PodScheduled");
        if old.is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(&message)) {
            return;
        }
        let since = self.client.env().wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::from_second(i64::try_from(since.as_secs()).unwrap_or(0)).unwrap_or_default();
        let unchanged = old.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
        let condition = PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(message),
            last_transition_time: Some(unchanged.unwrap_or(Time(now))),
            observed_generation: pod.pod.metadata.generation,
            ..PodCondition::default()
        };
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [condition]},
        }));
        let api = self.client.namespaced::<Pod>(pod.namespace());
        let name = Object::name(&*pod.pod).to_owned();
        self.work.push(
            async move {
                match api.patch_status(&name, &patch, &PatchOptions::default()).await {
                    Ok(_) => {}
                    Err(error) if error.is_not_found() || error.is_conflict() => {}
                    Err(error) => tracing::debug!(pod = name, %error, "a pod's condition could not be written"),
                }
                Done::Status
            }
            .boxed(),
        );
    }
}

fn has_labels(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().is_some_and(|labels| !labels.is_empty())
}

/// A running pod asks for less than before, or its labels (which affinity looks at) are others.
fn shrunk(old: &Pod, new: &Pod) -> bool {
    old.metadata.labels != new.metadata.labels || old.spec != new.spec
}

/// A node's change may let pods in that it kept out.
fn room_changed(old: &Node, new: &Node) -> bool {
    let of = |node: &Node| {
        let mut info = NodeInfo::new("");
        info.set_node(Some(Arc::new(node.clone())));
        (
            info.allocatable.clone(),
            info.pods_max,
            info.taints().to_vec(),
            info.is_unschedulable(),
            info.labels().clone(),
        )
    };
    of(old) != of(new)
}
