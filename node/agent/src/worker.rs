//! One pod's worker: plans, carries the plan out, tells the API what became of it. All workers share the
//! agent's [`Shared`] state; a worker ends once nothing of its pod is left on the node.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use keelstone_client::{ClientError, DeleteOptions, EventType, Object, ObjectRef, Patch, PatchOptions};
use keelstone_env::fault::{self, Point};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    agent::Shared,
    constants::{IMAGE_BACKOFF_S_MAX, IMAGE_BACKOFF_S_MIN, RESTART_BACKOFF_RESET_S, SANDBOX_BACKOFF_S},
    materials::{self, MaterialError},
    pod::{backoff_s, plan, status, Action, PodMemory, ProbeState},
    runtime::{ContainerPhase, ContainerState, RuntimeError, SandboxState},
};

/// A pod whose worker has nothing to do is looked at again after this long, in case a wake was lost.
const IDLE: Duration = Duration::from_secs(60);
/// The pause after a failed action or a failed write.
const RETRY: Duration = Duration::from_secs(1);

pub struct Worker {
    shared: Arc<Shared>,
    uid: String,
    pub(crate) wake: Arc<Notify>,
    pub(crate) memory: Arc<Mutex<PodMemory>>,
    /// The pod as it was last seen in the API: what is left when it is gone from there.
    last: Mutex<Option<Arc<Pod>>>,
}

/// What one round came to.
enum Round {
    /// Nothing of the pod is left here.
    Gone,
    /// Something was done: look again at once.
    Again,
    WaitFor(Duration),
}

impl Worker {
    pub fn new(shared: Arc<Shared>, uid: &str) -> Self {
        Self {
            shared,
            uid: uid.to_owned(),
            wake: Arc::new(Notify::new()),
            memory: Arc::default(),
            last: Mutex::new(None),
        }
    }

    /// Works until nothing of the pod is left on the node.
    pub async fn run(self: Arc<Self>) {
        loop {
            match self.round().await {
                Round::Gone => break,
                Round::Again => {}
                Round::WaitFor(pause) => {
                    tokio::select! {
                        biased;
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        self.shared.probes.forget(&self.uid);
        self.shared.forget_worker(&self.uid);
    }

    async fn round(&self) -> Round {
        fault::pause(Point::AgentSync).await;
        let sandboxes = self.shared.sandboxes_of(&self.uid);
        let in_api = self.shared.pod(&self.uid);
        let pod = match (&in_api, self.last.lock().expect("no panic under this lock").clone()) {
            (Some(pod), _) => pod.clone(),
            (None, _) if sandboxes.is_empty() => return Round::Gone,
            (None, Some(last)) => Arc::new(deleted(&last, self.shared.now_unix_s())),
            (None, None) => Arc::new(orphan(&sandboxes, self.shared.now_unix_s())),
        };
        if in_api.is_some() {
            *self.last.lock().expect("no panic under this lock") = in_api.clone();
        }
        let now = self.shared.now_unix_s();
        self.count_ends(&pod, &sandboxes, now);
        if let Some((reason, message)) = self.refusal(&pod, &sandboxes) {
            self.fail(&pod, &reason, &message);
        }
        let deadline = self.deadline_s(&pod, now);
        if deadline == Some(0) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.fail(&pod, "DeadlineExceeded", message);
        }
        self.shared.probes.follow(&self.uid, &pod, &sandboxes, &self.memory, &self.wake);
        let plan = plan(&pod, &sandboxes, &self.memory(), now);
        if plan.actions.contains(&Action::Finish) {
            return match in_api {
                Some(_) => self.finish(&pod).await,
                None => Round::Gone,
            };
        }
        // Containers are stopped side by side, each with its whole grace period; the rest goes in order.
        let (stops, others): (Vec<Action>, Vec<Action>) =
            plan.actions.into_iter().partition(|a| matches!(a, Action::StopContainer { .. }));
        let mut results =
            futures::future::join_all(stops.iter().map(|action| self.try_act(&pod, &sandboxes, action))).await;
        for action in &others {
            results.push(self.try_act(&pod, &sandboxes, action).await);
        }
        let (done, failed) = (results.contains(&true), results.contains(&false));
        if done || failed {
            self.shared.observe_now().await;
        }
        let told = match &in_api {
            Some(pod) => self.tell(pod).await,
            None => true,
        };
        match (done && !failed, told) {
            (true, true) => Round::Again,
            (_, false) => Round::WaitFor(RETRY),
            (false, true) if failed => Round::WaitFor(RETRY),
            _ => {
                let deadline = deadline.filter(|s| *s > 0).map_or(IDLE, Duration::from_secs);
                Round::WaitFor(plan.wake_after.unwrap_or(IDLE).min(deadline))
            }
        }
    }

    fn memory(&self) -> PodMemory {
        self.memory.lock().expect("no panic under this lock").clone()
    }

    /// A pod that may not run here at all: only asked before anything of it has run.
    fn refusal(&self, pod: &Pod, sandboxes: &[SandboxState]) -> Option<(String, String)> {
        let begun = !sandboxes.is_empty() || self.memory().failed.is_some() || pod.is_terminating();
        if begun {
            return None;
        }
        crate::admit::refusal(pod, &self.shared.admit_context(&self.uid)).or_else(|| {
            let runtime = &self.shared.runtime;
            let what = runtime.lacks(pod)?;
            Some(("UnsupportedPodSpec".into(), format!("the {} runtime does not implement {what}", runtime.name())))
        })
    }

    /// Seconds until a pod that is still active has to be ended (`activeDeadlineSeconds`).
    fn deadline_s(&self, pod: &Pod, now_unix_s: i64) -> Option<u64> {
        let status = pod.status.as_ref()?;
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let limit_s = pod.spec.as_ref()?.active_deadline_seconds.filter(|_| !ended && !pod.is_terminating())?;
        let since = status.start_time.as_ref()?.0.as_second();
        Some(u64::try_from(since.saturating_add(limit_s).saturating_sub(now_unix_s)).unwrap_or(0))
    }

    fn fail(&self, pod: &Pod, reason: &str, message: &str) {
        let mut memory = self.memory.lock().expect("no panic under this lock");
        if memory.failed.is_none() {
            memory.failed = Some((reason.to_owned(), message.to_owned()));
            self.shared.events.warning(pod, reason, message);
        }
    }

    /// Notes containers that ended since the last round, for the pause before their restart.
    fn count_ends(&self, pod: &Pod, sandboxes: &[SandboxState], now_unix_s: i64) {
        let mut memory = self.memory.lock().expect("no panic under this lock");
        let spec = pod.spec.as_ref();
        let mains = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let inits = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        for container in inits.iter().chain(mains) {
            let all = sandboxes.iter().flat_map(|s| &s.containers).filter(|c| c.name == container.name);
            let Some(newest) = all.max_by_key(|c| c.attempt) else { continue };
            let ContainerPhase::Exited { finished_unix_ns, .. } = &newest.phase else { continue };
            let remembered = memory.containers.entry(container.name.clone()).or_default();
            if remembered.counted == newest.id {
                continue;
            }
            let ran_s = finished_unix_ns.saturating_sub(newest.started_unix_ns) / 1_000_000_000;
            let fresh = u64::try_from(ran_s).unwrap_or(0) >= RESTART_BACKOFF_RESET_S;
            remembered.failures = if fresh { 1 } else { remembered.failures.saturating_add(1) };
            // Counted from now at the latest: a wall clock that jumped makes no pause longer.
            let ended_s = (finished_unix_ns / 1_000_000_000).min(now_unix_s);
            remembered.retry_at_unix_s = ended_s + backoff_s(remembered.failures);
            remembered.counted = newest.id.clone();
            remembered.startup = ProbeState::Unknown;
            remembered.liveness = ProbeState::Unknown;
            remembered.readiness = ProbeState::Unknown;
        }
    }

    /// True if it was done.
    async fn try_act(&self, pod: &Arc<Pod>, sandboxes: &[SandboxState], action: &Action) -> bool {
        let acted = self.act(pod, sandboxes, action).await;
        if let Err(error) = &acted {
            tracing::debug!(pod = %pod.key(), ?action, %error, "action failed");
        }
        acted.is_ok()
    }

    async fn act(&self, pod: &Arc<Pod>, sandboxes: &[SandboxState], action: &Action) -> Result<(), RuntimeError> {
        let runtime = &self.shared.runtime;
        match action {
            Action::StartSandbox { attempt } => self.start_sandbox(pod, *attempt).await,
            Action::StopSandbox { id } => runtime.stop_sandbox(id).await,
            Action::RemoveSandbox { id } => runtime.remove_sandbox(id).await,
            Action::StartContainer { sandbox_id, name, attempt, .. } => {
                let ip = sandboxes.iter().find(|s| s.id == *sandbox_id).map(|s| s.ip.clone()).unwrap_or_default();
                self.start_container(pod, sandbox_id, &ip, name, *attempt).await
            }
            Action::StopContainer { id, name, grace_s, why } => {
                let reference = ObjectRef::of(&**pod).field_path(format!("spec.containers{{{name}}}"));
                self.shared.events.event(&reference, EventType::Normal, "Killing", why.clone());
                if let Some(container) = self.container_of(pod, name) {
                    crate::lifecycle::pre_stop(&self.shared, pod, &container, id, *grace_s).await;
                }
                runtime.stop_container(id, Duration::from_secs(*grace_s)).await
            }
            Action::RemoveContainer { id } => runtime.remove_container(id).await,
            Action::Finish => Ok(()),
        }
    }

    fn container_of(&self, pod: &Pod, name: &str) -> Option<Container> {
        let spec = pod.spec.as_ref()?;
        spec.init_containers.iter().flatten().chain(&spec.containers).find(|c| c.name == name).cloned()
    }

    async fn start_sandbox(&self, pod: &Arc<Pod>, attempt: u32) -> Result<(), RuntimeError> {
        let spec = materials::sandbox_spec(&self.shared.config, pod, attempt);
        let started = self.shared.runtime.start_sandbox(&spec).await;
        let mut memory = self.memory.lock().expect("no panic under this lock");
        match started {
            Ok(_) => {
                memory.sandbox_error = None;
                Ok(())
            }
            Err(error) => {
                memory.sandbox_error = Some(error.to_string());
                memory.sandbox_retry_at_unix_s = self.shared.now_unix_s() + SANDBOX_BACKOFF_S;
                let said = format!("Failed to create pod sandbox: {error}");
                self.shared.events.warning(&**pod, "FailedCreatePodSandBox", said);
                Err(error)
            }
        }
    }

    async fn start_container(
        &self,
        pod: &Arc<Pod>,
        sandbox_id: &str,
        pod_ip: &str,
        name: &str,
        attempt: u32,
    ) -> Result<(), RuntimeError> {
        let Some(container) = self.container_of(pod, name) else { return Ok(()) };
        let reference = ObjectRef::of(&**pod).field_path(format!("spec.containers{{{name}}}"));
        let sandbox = materials::sandbox_spec(&self.shared.config, pod, 0);
        let spec = match materials::container_spec(&self.shared, pod, &container, pod_ip, attempt).await {
            Ok(spec) => spec,
            Err(error) => return Err(self.not_started(pod, &reference, name, &StartError::Material(error))),
        };
        match self.shared.runtime.start_container(sandbox_id, &sandbox, &spec).await {
            Ok(id) => {
                {
                    let mut memory = self.memory.lock().expect("no panic under this lock");
                    let remembered = memory.containers.entry(name.to_owned()).or_default();
                    remembered.start_error = None;
                    remembered.start_failures = 0;
                }
                self.shared.events.event(&reference, EventType::Normal, "Started", format!("Started container {name}"));
                crate::lifecycle::post_start(&self.shared, pod, &container, &id).await;
                Ok(())
            }
            Err(error) => Err(self.not_started(pod, &reference, name, &StartError::Runtime(error))),
        }
    }

    /// Remembers and tells why a container could not be started, and when it is tried again.
    fn not_started(&self, pod: &Pod, reference: &ObjectRef, name: &str, error: &StartError) -> RuntimeError {
        let (reason, event, message) = error.told(name);
        let mut memory = self.memory.lock().expect("no panic under this lock");
        let remembered = memory.containers.entry(name.to_owned()).or_default();
        remembered.start_failures = remembered.start_failures.saturating_add(1);
        // The first failure is told as such; later ones as the pause they cause.
        let reason = match (reason, remembered.start_failures) {
            ("ErrImagePull", 2..) => "ImagePullBackOff",
            (reason, _) => reason,
        };
        remembered.start_error = Some((reason.to_owned(), message.clone()));
        let pause_s = IMAGE_BACKOFF_S_MIN
            .saturating_mul(1_i64 << remembered.start_failures.saturating_sub(1).min(16))
            .min(IMAGE_BACKOFF_S_MAX);
        remembered.retry_at_unix_s = self.shared.now_unix_s() + pause_s;
        drop(memory);
        self.shared.events.event(reference, EventType::Warning, event, message.clone());
        tracing::debug!(pod = %pod.key(), container = name, %message, "container not started");
        RuntimeError::Failed(message)
    }

    /// Writes the pod's status if it says something new; false if it could not be written.
    async fn tell(&self, pod: &Arc<Pod>) -> bool {
        let sandboxes = self.shared.sandboxes_of(&self.uid);
        let told = status(pod, &sandboxes, &self.memory(), &self.shared.config.address, self.shared.now_unix_s());
        if pod.status.as_ref() == Some(&told) {
            return true;
        }
        fault::pause(Point::AgentStatus).await;
        let body = json!({"metadata": {"uid": self.uid}, "status": status_json(&told)});
        let api = self.shared.client.namespaced::<Pod>(pod.namespace());
        match api.patch_status(pod.name(), &Patch::Merge(body), &PatchOptions::default()).await {
            Ok(stored) => {
                // The informer may show the pod as it was before this write for a moment more.
                self.shared.note_told(&stored);
                true
            }
            Err(error) if error.is_not_found() || error.is_conflict() => true,
            Err(error) => {
                tracing::debug!(pod = %pod.key(), %error, "status not written");
                false
            }
        }
    }

    /// Nothing runs any more: the object may go. Its last status is told first.
    async fn finish(&self, pod: &Arc<Pod>) -> Round {
        self.shared.discard_volumes(&self.uid).await;
        let options =
            DeleteOptions { grace_period_s: Some(0), uid: Some(self.uid.clone()), ..DeleteOptions::default() };
        let api = self.shared.client.namespaced::<Pod>(pod.namespace());
        match api.delete(pod.name(), &options).await {
            Ok(_) => Round::Gone,
            Err(error) if error.is_not_found() || error.is_conflict() => Round::Gone,
            Err(ClientError::Status(said)) => {
                tracing::info!(pod = %pod.key(), %said, "the API server did not delete an ended pod");
                Round::WaitFor(RETRY)
            }
            Err(_) => Round::WaitFor(RETRY),
        }
    }
}

enum StartError {
    Material(MaterialError),
    Runtime(RuntimeError),
}

impl StartError {
    /// The container's waiting reason, the event's reason, the message.
    fn told(&self, name: &str) -> (&'static str, &'static str, String) {
        match self {
            Self::Material(error) => ("CreateContainerConfigError", "Failed", format!("Error: {error}")),
            Self::Runtime(RuntimeError::Image { image, said }) if said == "ErrImageNeverPull" => {
                let message = format!("Container image \"{image}\" is not present with pull policy of Never");
                ("ErrImageNeverPull", "ErrImageNeverPull", message)
            }
            Self::Runtime(RuntimeError::Image { image, said }) => {
                ("ErrImagePull", "Failed", format!("Failed to pull image \"{image}\": {said}"))
            }
            Self::Runtime(error) => {
                ("RunContainerError", "Failed", format!("Error: failed to start container \"{name}\": {error}"))
            }
        }
    }
}

/// A status as a merge patch: what is absent is removed.
fn status_json(status: &PodStatus) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    for field in ["reason", "message", "podIP", "podIPs"] {
        if value.get(field).is_none() {
            value[field] = serde_json::Value::Null;
        }
    }
    value
}

/// The pod as it would be if its deletion had been seen.
fn deleted(last: &Pod, now_unix_s: i64) -> Pod {
    let mut pod = last.clone();
    if pod.metadata.deletion_timestamp.is_none() {
        let grace_s = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
        pod.metadata.deletion_grace_period_seconds = Some(grace_s);
        let at = Timestamp::from_second(now_unix_s.saturating_add(grace_s)).unwrap_or_default();
        pod.metadata.deletion_timestamp = Some(Time(at));
    }
    pod
}

/// Stands for a pod of which only the sandboxes are left: it was deleted while the agent was away.
fn orphan(sandboxes: &[SandboxState], now_unix_s: i64) -> Pod {
    let identity = sandboxes.first().map(|s| s.pod.clone()).unwrap_or_default();
    let mut pod = Pod::default();
    pod.metadata.name = Some(identity.name);
    pod.metadata.namespace = Some(identity.namespace);
    pod.metadata.uid = Some(identity.uid);
    pod.spec = Some(k8s_openapi::api::core::v1::PodSpec::default());
    deleted(&pod, now_unix_s)
}

/// The newest running container of a name.
pub(crate) fn running<'a>(sandboxes: &'a [SandboxState], name: &str) -> Option<&'a ContainerState> {
    let all = sandboxes.iter().filter(|s| s.ready).flat_map(|s| &s.containers);
    all.filter(|c| c.name == name && c.is_running()).max_by_key(|c| c.attempt)
}
