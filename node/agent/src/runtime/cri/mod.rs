//! Containers of a CRI runtime (containerd), over its v1 gRPC contract. The runtime keeps everything; the
//! agent keeps only what saves questions.
//!
//! Some runtimes (containerd 1.6) tell no events, so it is polled.

mod channel;
mod messages;
mod watcher;

/// The contract's messages, compiled from `proto/cri.proto`.
pub mod pb {
    #![allow(clippy::all, clippy::disallowed_types, missing_docs)]
    tonic::include_proto!("runtime.v1");
}

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use keelstone_env::Env;
use messages::ImageUser;
use pb::{image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient};
use tokio::sync::OnceCell;
use tonic::{transport::Channel, Code, Response, Status};
use watcher::{Known, Place};

use super::{ContainerSpec, ContainerState, ExecOutput, PodIdentity, Runtime, RuntimeError, SandboxSpec, SandboxState};
use crate::constants::{CRI_ANSWER_BYTES_MAX, CRI_CALL_S_MAX, CRI_LOOK_S_MAX, EXEC_BYTES_MAX, IMAGE_PULL_S_MAX};

const LOOK: Duration = Duration::from_secs(CRI_LOOK_S_MAX);
const CALL: Duration = Duration::from_secs(CRI_CALL_S_MAX);
const CGROUPS: &str = "/sys/fs/cgroup";

pub struct CriOptions {
    pub socket: PathBuf,
    /// The node's name: marks what this agent started.
    pub node: String,
    /// Pods get cgroups below this one; empty: where the runtime puts them.
    pub cgroup_parent: String,
}

pub struct CriRuntime {
    env: Env,
    options: CriOptions,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    known: Known,
    /// `containerd://`, once it has said its name.
    scheme: OnceCell<String>,
}

/// Waits for an answer for at most `limit`.
async fn call<T>(
    limit: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, RuntimeError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(error(&status)),
        Err(_) => Err(RuntimeError::Unavailable(format!("no answer within {} s", limit.as_secs()))),
    }
}

fn error(status: &Status) -> RuntimeError {
    let said = status.message().to_owned();
    // With a cause, it was made on this side: there was no answer.
    if let Some(cause) = std::error::Error::source(status) {
        let mut causes = vec![said, cause.to_string()];
        let mut next = cause.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes.dedup();
        return RuntimeError::Unavailable(causes.join(": "));
    }
    match status.code() {
        Code::NotFound => RuntimeError::NotFound(said),
        Code::Unavailable | Code::DeadlineExceeded => RuntimeError::Unavailable(said),
        _ => RuntimeError::Failed(said),
    }
}

/// What is not there need not be ended.
fn gone_is_fine<T: Default>(result: Result<T, RuntimeError>) -> Result<T, RuntimeError> {
    match result {
        Err(RuntimeError::NotFound(_)) => Ok(T::default()),
        other => other,
    }
}

/// The runtime's own id, without the scheme.
fn bare(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, bare)| bare)
}

/// The name of the sandbox or container is taken by a leftover.
fn is_name_taken(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Failed(said) if said.contains("is reserved for"))
}

impl CriRuntime {
    /// Nothing is connected until the first call; a runtime that is down is connected to when it is up.
    pub fn new(env: Env, options: CriOptions) -> Self {
        let channel = channel::channel(&options.socket);
        Self {
            env,
            options,
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(CRI_ANSWER_BYTES_MAX),
            images: ImageServiceClient::new(channel),
            known: Known::default(),
            scheme: OnceCell::new(),
        }
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    async fn asked_version(&self) -> Result<pb::VersionResponse, RuntimeError> {
        call(LOOK, self.runtime().version(pb::VersionRequest { version: "v1".into() })).await
    }

    async fn scheme(&self) -> Result<&str, RuntimeError> {
        let asked = || async { Ok(format!("{}://", self.asked_version().await?.runtime_name)) };
        self.scheme.get_or_try_init(asked).await.map(String::as_str)
    }

    async fn list_sandboxes(&self, labels: BTreeMap<String, String>) -> Result<Vec<pb::PodSandbox>, RuntimeError> {
        let filter = pb::PodSandboxFilter { id: String::new(), label_selector: labels };
        let request = pb::ListPodSandboxRequest { filter: Some(filter) };
        Ok(call(LOOK, self.runtime().list_pod_sandbox(request)).await?.items)
    }

    async fn list_containers(&self, sandbox: &str) -> Result<Vec<pb::Container>, RuntimeError> {
        let filter = pb::ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..Default::default() };
        let request = pb::ListContainersRequest { filter: Some(filter) };
        Ok(call(LOOK, self.runtime().list_containers(request)).await?.containers)
    }

    async fn sandbox_status(&self, id: &str) -> Result<pb::PodSandboxStatus, RuntimeError> {
        let request = pb::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        Ok(call(LOOK, self.runtime().pod_sandbox_status(request)).await?.status.unwrap_or_default())
    }

    async fn address(&self, id: &str) -> Result<String, RuntimeError> {
        if let Some(address) = self.known.address(id) {
            return Ok(address);
        }
        let address = self.sandbox_status(id).await?.network.unwrap_or_default().ip;
        self.known.keep_address(id, &address);
        Ok(address)
    }

    /// The details of a listed container; `None` if it is gone, or was a leftover that has been removed.
    async fn details(&self, listed: &pb::Container) -> Result<Option<ContainerState>, RuntimeError> {
        if let Some(details) = self.known.details(&listed.id, listed.state) {
            return Ok(Some(details));
        }
        let metadata = listed.metadata.clone().unwrap_or_default();
        let place: Place = (listed.pod_sandbox_id.clone(), metadata.name, metadata.attempt);
        // Asked before the status: a start that has ended by now has left the state `created` behind.
        let starting = self.known.is_starting(&place);
        let request = pb::ContainerStatusRequest { container_id: listed.id.clone(), verbose: false };
        let status = match call(LOOK, self.runtime().container_status(request)).await {
            Err(RuntimeError::NotFound(_)) => return Ok(None),
            answered => answered?.status.unwrap_or_default(),
        };
        let scheme = self.scheme().await?;
        let state = watcher::container_state(scheme, status);
        if state.phase == super::ContainerPhase::Created && !starting {
            tracing::info!(container = %state.id, name = %state.name, "a container that was never started is removed");
            self.remove_container(&listed.id).await?;
            return Ok(None);
        }
        self.known.keep_details(&listed.id, listed.state, &state, self.now_unix_ns());
        Ok(Some(state))
    }

    fn now_unix_ns(&self) -> i64 {
        let since = self.env.wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    async fn run_sandbox(&self, config: &pb::PodSandboxConfig) -> Result<String, RuntimeError> {
        let request = pb::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        Ok(call(CALL, self.runtime().run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    /// The sandbox that holds the name of the one to be started, if it is whole: an earlier start succeeded
    /// without the agent hearing of it. One that is not is removed.
    async fn earlier_sandbox(&self, spec: &SandboxSpec) -> Result<Option<String>, RuntimeError> {
        let labels = BTreeMap::from([(messages::POD_UID.to_owned(), spec.pod.uid.clone())]);
        for left in self.list_sandboxes(labels).await? {
            if left.metadata.as_ref().is_some_and(|m| m.attempt == spec.attempt) {
                if left.state == pb::PodSandboxState::SandboxReady as i32 {
                    return Ok(Some(left.id));
                }
                self.remove_sandbox(&left.id).await?;
            }
        }
        Ok(None)
    }

    async fn image_status(&self, image: &str) -> Result<Option<pb::Image>, RuntimeError> {
        let image = Some(pb::ImageSpec { image: image.to_owned() });
        let request = pb::ImageStatusRequest { image, verbose: false };
        Ok(call(LOOK, self.images.clone().image_status(request)).await?.image)
    }

    /// Makes sure that the image is there, as the pull policy says.
    async fn image(&self, spec: &ContainerSpec, sandbox: &pb::PodSandboxConfig) -> Result<pb::Image, RuntimeError> {
        let refused = |said: String| RuntimeError::Image { image: spec.image.clone(), said };
        let present = self.image_status(&spec.image).await?;
        match (present, spec.image_pull_policy.as_str()) {
            (Some(image), policy) if policy != "Always" => return Ok(image),
            (_, "Never") => return Err(refused("ErrImageNeverPull".into())),
            _ => {}
        }
        let image = Some(pb::ImageSpec { image: spec.image.clone() });
        let request = pb::PullImageRequest { image, sandbox_config: Some(sandbox.clone()) };
        let limit = Duration::from_secs(IMAGE_PULL_S_MAX);
        let pulled = match call(limit, self.images.clone().pull_image(request)).await {
            Err(RuntimeError::NotFound(said) | RuntimeError::Failed(said)) => return Err(refused(said)),
            answered => answered?.image_ref,
        };
        let image = self.image_status(&pulled).await?;
        image.ok_or_else(|| refused("it was pulled, but the runtime does not have it".into()))
    }

    async fn create_container(&self, request: pb::CreateContainerRequest) -> Result<String, RuntimeError> {
        Ok(call(CALL, self.runtime().create_container(request)).await?.container_id)
    }

    /// The container that holds the name of the one to be started, if it has run: an earlier start succeeded
    /// without the agent hearing of it. One that never ran is removed.
    async fn earlier_container(&self, sandbox: &str, spec: &ContainerSpec) -> Result<Option<String>, RuntimeError> {
        for left in self.list_containers(sandbox).await? {
            if left.metadata.as_ref().is_some_and(|m| m.name == spec.name && m.attempt == spec.attempt) {
                if matches!(left.state(), pb::ContainerState::ContainerRunning | pb::ContainerState::ContainerExited) {
                    return Ok(Some(left.id));
                }
                self.remove_container(&left.id).await?;
            }
        }
        Ok(None)
    }

    /// The runtime leaves a pod's own cgroup behind: it belongs to the agent.
    async fn remove_cgroup(&self, uid: &str) {
        let cgroup = messages::pod_cgroup(&self.options.cgroup_parent, uid);
        if !cgroup.is_empty() && !uid.is_empty() {
            self.env.offload(move || remove_cgroup_dirs(&cgroup)).await;
        }
    }
}

/// Removes an empty cgroup, in the one hierarchy or in those of all controllers.
fn remove_cgroup_dirs(cgroup: &str) {
    let inside = cgroup.trim_start_matches('/');
    let root = Path::new(CGROUPS);
    let controllers = std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path());
    for hierarchy in std::iter::once(root.to_owned()).chain(controllers) {
        // Never more than a folder without children or processes: the kernel refuses others.
        let _ = std::fs::remove_dir(hierarchy.join(inside));
    }
}

#[async_trait]
impl Runtime for CriRuntime {
    fn name(&self) -> &'static str {
        "cri"
    }

    async fn version(&self) -> Result<String, RuntimeError> {
        let version = self.asked_version().await?;
        let status = call(LOOK, self.runtime().status(pb::StatusRequest { verbose: false })).await?;
        let conditions = status.status.unwrap_or_default().conditions;
        if let Some(unmet) = conditions.iter().find(|c| !c.status && c.r#type.ends_with("Ready")) {
            return Err(RuntimeError::Unavailable(format!("{} is false: {}", unmet.r#type, unmet.message)));
        }
        Ok(format!("{}://{}", version.runtime_name, version.runtime_version))
    }

    async fn observe(&self) -> Result<Vec<SandboxState>, RuntimeError> {
        let sandboxes = self.list_sandboxes(messages::own(&self.options.node)).await?;
        // All containers: a filter by sandbox would be a call for each.
        let listed = self.list_containers("").await?;
        let ids: BTreeSet<&str> = sandboxes.iter().map(|s| s.id.as_str()).collect();
        let containers: BTreeSet<&str> = listed.iter().map(|c| c.id.as_str()).collect();
        self.known.retain(&ids, &containers);
        let mut by_sandbox: BTreeMap<&str, Vec<ContainerState>> = BTreeMap::new();
        for container in listed.iter().filter(|c| ids.contains(c.pod_sandbox_id.as_str())) {
            if let Some(state) = self.details(container).await? {
                by_sandbox.entry(&container.pod_sandbox_id).or_default().push(state);
            }
        }
        let mut seen = Vec::new();
        for sandbox in &sandboxes {
            let metadata = sandbox.metadata.clone().unwrap_or_default();
            let ready = sandbox.state == pb::PodSandboxState::SandboxReady as i32;
            let ip = match ready {
                true => gone_is_fine(self.address(&sandbox.id).await)?,
                false => String::new(),
            };
            let mut containers = by_sandbox.remove(sandbox.id.as_str()).unwrap_or_default();
            containers.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
            seen.push(SandboxState {
                id: sandbox.id.clone(),
                pod: PodIdentity { uid: metadata.uid, namespace: metadata.namespace, name: metadata.name },
                attempt: metadata.attempt,
                ready,
                ip,
                created_unix_ns: sandbox.created_at,
                containers,
            });
        }
        seen.sort_by(|a, b| (&a.pod, a.attempt).cmp(&(&b.pod, b.attempt)));
        Ok(seen)
    }

    async fn start_sandbox(&self, spec: &SandboxSpec) -> Result<String, RuntimeError> {
        let (env, log_dir) = (self.env.clone(), spec.log_dir.clone());
        let made = self.env.offload(move || env.disk().create_dir_all(&log_dir)).await;
        made.map_err(|e| RuntimeError::Failed(format!("log folder: {e}")))?;
        let config = messages::sandbox(spec, &self.options.node, &self.options.cgroup_parent);
        match self.run_sandbox(&config).await {
            Err(error) if is_name_taken(&error) => match self.earlier_sandbox(spec).await? {
                Some(id) => Ok(id),
                None => self.run_sandbox(&config).await,
            },
            answered => answered,
        }
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let request = pb::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(call(CALL, self.runtime().stop_pod_sandbox(request)).await).map(drop)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        self.stop_sandbox(id).await?;
        let status = gone_is_fine(self.sandbox_status(id).await)?;
        let uid = status.metadata.unwrap_or_default().uid;
        let request = pb::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(call(CALL, self.runtime().remove_pod_sandbox(request)).await)?;
        self.remove_cgroup(&uid).await;
        Ok(())
    }

    async fn start_container(
        &self,
        sandbox_id: &str,
        sandbox: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<String, RuntimeError> {
        let sandbox_config = messages::sandbox(sandbox, &self.options.node, &self.options.cgroup_parent);
        let image = self.image(spec, &sandbox_config).await?;
        let user = ImageUser { uid: image.uid.map(|u| u.value), name: image.username };
        if let Some(violation) = user.non_root_violation(spec) {
            return Err(RuntimeError::Failed(violation));
        }
        if let Some(folder) = sandbox.log_dir.join(&spec.log_path).parent().map(Path::to_owned) {
            let env = self.env.clone();
            let made = self.env.offload(move || env.disk().create_dir_all(&folder)).await;
            made.map_err(|e| RuntimeError::Failed(format!("log folder: {e}")))?;
        }
        let _starting = self.known.starting((sandbox_id.to_owned(), spec.name.clone(), spec.attempt));
        let request = pb::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(messages::container(sandbox, spec, &image.id, &user)),
            sandbox_config: Some(sandbox_config),
        };
        let id = match self.create_container(request.clone()).await {
            Err(error) if is_name_taken(&error) => match self.earlier_container(sandbox_id, spec).await? {
                Some(id) => return Ok(format!("{}{id}", self.scheme().await?)),
                None => self.create_container(request).await?,
            },
            answered => answered?,
        };
        let start = pb::StartContainerRequest { container_id: id.clone() };
        if let Err(error) = call(CALL, self.runtime().start_container(start)).await {
            // It would hold its name, and look as if it were about to start.
            if let Err(left) = self.remove_container(&id).await {
                tracing::debug!(container = %id, %left, "a container that did not start is still there");
            }
            return Err(error);
        }
        Ok(format!("{}{id}", self.scheme().await?))
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = pb::StopContainerRequest { container_id: bare(id).to_owned(), timeout };
        gone_is_fine(call(grace.saturating_add(CALL), self.runtime().stop_container(request)).await).map(drop)
    }

    async fn remove_container(&self, id: &str) -> Result<(), RuntimeError> {
        let request = pb::RemoveContainerRequest { container_id: bare(id).to_owned() };
        gone_is_fine(call(CALL, self.runtime().remove_container(request)).await).map(drop)
    }

    async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Result<ExecOutput, RuntimeError> {
        let timeout = i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = pb::ExecSyncRequest { container_id: bare(id).to_owned(), cmd: command.to_vec(), timeout };
        let output = match call(limit.saturating_add(LOOK), self.runtime().exec_sync(request)).await {
            Err(RuntimeError::Unavailable(said)) if said.contains("timeout") => {
                return Err(RuntimeError::Failed("the command timed out".into()));
            }
            answered => answered?,
        };
        let mut text = output.stdout;
        text.extend_from_slice(&output.stderr);
        text.truncate(EXEC_BYTES_MAX);
        Ok(ExecOutput { exit_code: output.exit_code, output: text })
    }
}
