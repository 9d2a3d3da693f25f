use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use k8s_openapi::api::core::v1::{Node, Pod};
use keelstone_client::{parse_version, Client, EventRecorder, Informer, InformerOptions, Object, StoreEvent};
use keelstone_env::Env;
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    admit::AdmitContext,
    config::AgentConfig,
    node_status,
    probes::Probes,
    runtime::{Runtime, SandboxState},
    server,
    volumes::Volumes,
    worker::Worker,
};

/// What all parts of one agent share.
pub struct Shared {
    pub env: Env,
    pub config: AgentConfig,
    pub client: Client,
    pub runtime: Arc<dyn Runtime>,
    pub events: EventRecorder,
    pub probes: Probes,
    pub volumes: Volumes,
    state: Mutex<State>,
    /// Asks for a look at the runtime before its time.
    observe: Notify,
    /// Counts the looks at the runtime.
    observed: tokio::sync::watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Pods of the API that are bound here, by uid.
    pods: BTreeMap<String, Arc<Pod>>,
    /// What the runtime showed last, by pod uid; `None` until it was seen once.
    sandboxes: Option<BTreeMap<String, Vec<SandboxState>>>,
    workers: BTreeMap<String, Arc<Worker>>,
    /// The API's pods have been seen once, so that a sandbox without a pod is known to be left over.
    pods_known: bool,
    node: Option<Arc<Node>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the agent's state is locked")
    }

    pub fn now_unix_s(&self) -> i64 {
        self.env.unix_time_s()
    }

    pub fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.state().pods.get(uid).cloned()
    }

    /// The pod of this namespace and name that is bound here now.
    pub fn pod_named(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.state().pods.values().find(|p| p.namespace() == namespace && p.name() == name).cloned()
    }

    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.state().pods.values().cloned().collect()
    }

    pub fn sandboxes_of(&self, uid: &str) -> Vec<SandboxState> {
        self.state().sandboxes.as_ref().and_then(|s| s.get(uid).cloned()).unwrap_or_default()
    }

    pub fn set_node(&self, node: Node) {
        self.state().node = Some(Arc::new(node));
    }

    pub fn forget_worker(&self, uid: &str) {
        self.state().workers.remove(uid);
    }

    /// Keeps the answer to a status write, unless the informer has brought something newer meanwhile.
    pub fn note_told(&self, pod: &Pod) {
        let mut state = self.state();
        if let Some(known) = state.pods.get_mut(pod.uid()) {
            if parse_version(known.resource_version()) < parse_version(pod.resource_version()) {
                *known = Arc::new(pod.clone());
            }
        }
    }

    /// What a new pod is measured against: the others that are here, and the node.
    pub fn admit_context(&self, uid: &str) -> AdmitContext {
        let state = self.state();
        let others = state.pods.iter().filter(|(other, pod)| *other != uid && !pod.is_terminating());
        AdmitContext {
            others: others.map(|(_, pod)| pod.clone()).collect(),
            node: state.node.clone(),
            capacity: self.config.capacity.clone(),
        }
    }

    pub async fn discard_volumes(&self, uid: &str) {
        self.volumes.discard(uid).await;
    }

    /// Looks at the runtime now and returns when that is done.
    pub async fn observe_now(&self) {
        let mut observed = self.observed.subscribe();
        // The look that may be under way began too early; the one after it did not.
        let wanted = *observed.borrow_and_update() + 2;
        self.observe.notify_one();
        let waited = tokio::time::timeout(self.config.clock.observe_every * 4, observed.wait_for(|n| *n + 1 >= wanted));
        let _ = waited.await;
    }

    /// One look at the runtime; wakes the workers of pods that changed.
    async fn look(self: &Arc<Self>) {
        match self.runtime.observe().await {
            Err(error) => tracing::debug!(%error, "the runtime could not be looked at"),
            Ok(all) => {
                let mut by_uid: BTreeMap<String, Vec<SandboxState>> = BTreeMap::new();
                for sandbox in all {
                    by_uid.entry(sandbox.pod.uid.clone()).or_default().push(sandbox);
                }
                let changed = self.replace_sandboxes(by_uid);
                self.wake(&changed);
            }
        }
        self.observed.send_modify(|n| *n += 1);
    }

    fn replace_sandboxes(&self, now: BTreeMap<String, Vec<SandboxState>>) -> Vec<String> {
        let mut state = self.state();
        let before = state.sandboxes.take().unwrap_or_default();
        let mut changed: Vec<String> = Vec::new();
        for uid in now.keys().chain(before.keys()) {
            if now.get(uid) != before.get(uid) && !changed.contains(uid) {
                changed.push(uid.clone());
            }
        }
        if state.pods_known {
            // What runs without a pod in the API is to be stopped: its worker does it.
            changed.extend(now.keys().filter(|uid| !state.pods.contains_key(*uid)).cloned());
        }
        state.sandboxes = Some(now);
        changed
    }

    /// Wakes the workers of these pods, and starts those that are missing, once both the API's pods and the
    /// runtime's sandboxes are known: before, a pod might be started twice or stopped wrongly.
    fn wake(self: &Arc<Self>, uids: &[String]) {
        let mut started = Vec::new();
        {
            let mut state = self.state();
            if state.sandboxes.is_none() || !state.pods_known {
                return;
            }
            for uid in uids {
                if let Some(worker) = state.workers.get(uid) {
                    worker.wake.notify_one();
                } else {
                    let worker = Arc::new(Worker::new(self.clone(), uid));
                    state.workers.insert(uid.clone(), worker.clone());
                    started.push(worker);
                }
            }
        }
        for worker in started {
            self.env.spawn(worker.run());
        }
    }

    fn wake_all(self: &Arc<Self>) {
        let uids: Vec<String> = {
            let state = self.state();
            let left = state.sandboxes.iter().flat_map(BTreeMap::keys);
            state.pods.keys().chain(left).cloned().collect()
        };
        self.wake(&uids);
    }

    /// Follows the API's pods of this node.
    async fn follow_pods(self: Arc<Self>) {
        let options = InformerOptions {
            stale_start: false,
            ..InformerOptions::fields(format!("spec.nodeName={}", self.config.node_name))
        };
        let informer = Informer::spawn(self.client.resource::<Pod>(), options);
        let mut changes = informer.store().subscribe();
        informer.wait_synced().await;
        loop {
            match changes.next().await {
                StoreEvent::Added(pod) | StoreEvent::Updated { new: pod, .. } => self.pod_changed(pod),
                StoreEvent::Deleted(pod) => {
                    self.state().pods.remove(pod.uid());
                    self.wake(&[pod.uid().to_owned()]);
                }
                StoreEvent::Resync => {
                    {
                        let mut state = self.state();
                        let told = std::mem::take(&mut state.pods);
                        for pod in informer.store().list() {
                            let newer = told.get(pod.uid()).filter(|old| {
                                parse_version(old.resource_version()) > parse_version(pod.resource_version())
                            });
                            let pod = newer.cloned().unwrap_or(pod);
                            state.pods.insert(pod.uid().to_owned(), pod);
                        }
                        state.pods_known = true;
                    }
                    self.wake_all();
                }
            }
        }
    }

    fn pod_changed(self: &Arc<Self>, pod: Arc<Pod>) {
        let uid = pod.uid().to_owned();
        let replaced: Vec<String> = {
            let mut state = self.state();
            // A pod of the same name but another uid is another pod: the old one is gone.
            let gone: Vec<String> = state
                .pods
                .values()
                .filter(|p| p.key() == pod.key() && p.uid() != uid)
                .map(|p| p.uid().to_owned())
                .collect();
            for old in &gone {
                state.pods.remove(old);
            }
            let newer = state
                .pods
                .get(&uid)
                .is_some_and(|known| parse_version(known.resource_version()) > parse_version(pod.resource_version()));
            if !newer {
                state.pods.insert(uid.clone(), pod);
            }
            gone
        };
        self.wake(&replaced);
        self.wake(&[uid]);
    }

    async fn look_forever(self: Arc<Self>) {
        loop {
            self.look().await;
            tokio::select! {
                biased;
                () = self.observe.notified() => {}
                () = tokio::time::sleep(self.config.clock.observe_every) => {}
            }
        }
    }
}

/// A running agent; it ends when this is dropped. Its containers go on.
pub struct Agent {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    port: u16,
}

impl Agent {
    /// Starts the agent: its server, its node object and lease, and its pods.
    ///
    /// # Errors
    /// If its address cannot be listened on, or its TLS material cannot be used.
    pub async fn start(
        env: Env,
        mut config: AgentConfig,
        client: Client,
        runtime: Arc<dyn Runtime>,
    ) -> std::io::Result<Self> {
        let tls = config.server_tls.as_ref().map(|tls| env.tls().server(tls)).transpose()?;
        let listener = env.net().bind(&format!("{}:{}", config.address, config.port)).await?;
        config.port = listener.port();
        let port = config.port;
        let shared = Arc::new(Shared {
            events: EventRecorder::new(&client, "kubelet", &config.node_name),
            probes: Probes::new(&env, runtime.clone(), &config.address),
            volumes: Volumes::new(&env, &client, &config),
            env: env.clone(),
            config,
            client,
            runtime,
            state: Mutex::default(),
            observe: Notify::new(),
            observed: tokio::sync::watch::channel(0).0,
        });
        let tasks = vec![
            env.spawn(server::serve(shared.clone(), listener, tls)),
            env.spawn(shared.clone().look_forever()),
            env.spawn(node_status::report_forever(shared.clone())),
            env.spawn(node_status::renew_lease_forever(shared.clone())),
            env.spawn(shared.clone().follow_pods()),
        ];
        Ok(Self { shared, tasks, port })
    }

    /// The port of its server.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
