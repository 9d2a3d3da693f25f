//! Hooks: postStart after a container has started, preStop before it is asked to end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use keelstone_client::{EventType, Object, ObjectRef};

use crate::{agent::Shared, probes};

const POST_START_S_MAX: u64 = 60;

/// Runs the postStart hook; a hook that fails is told as an event, and the container is ended, as the API
/// says, by the caller's next round (its liveness counts as failed).
pub async fn post_start(shared: &Shared, pod: &Pod, container: &Container, id: &str) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return };
    if let Err(said) = run(shared, pod, container, hook, id, Duration::from_secs(POST_START_S_MAX)).await {
        tell(shared, pod, container, "FailedPostStartHook", &said);
        if let Err(error) = shared.runtime.stop_container(id, Duration::from_secs(2)).await {
            tracing::debug!(pod = %pod.key(), %error, "container not stopped after its postStart hook failed");
        }
    }
}

/// Runs the preStop hook within the grace period.
pub async fn pre_stop(shared: &Shared, pod: &Pod, container: &Container, id: &str, grace_s: u64) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else { return };
    if grace_s == 0 {
        return;
    }
    if let Err(said) = run(shared, pod, container, hook, id, Duration::from_secs(grace_s)).await {
        tell(shared, pod, container, "FailedPreStopHook", &said);
    }
}

fn tell(shared: &Shared, pod: &Pod, container: &Container, reason: &str, said: &str) {
    let reference = ObjectRef::of(pod).field_path(format!("spec.containers{{{}}}", container.name));
    shared.events.event(&reference, EventType::Warning, reason, said.to_owned());
}

async fn run(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    hook: &LifecycleHandler,
    id: &str,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let output = shared.runtime.exec(id, &command, limit).await.map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.output).into_owned();
        return if output.exit_code == 0 { Ok(()) } else { Err(format!("exited with {}: {text}", output.exit_code)) };
    }
    if let Some(sleep) = &hook.sleep {
        let pause = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(pause.min(limit)).await;
        return Ok(());
    }
    if let Some(http) = &hook.http_get {
        let address = shared.sandboxes_of(pod.uid()).into_iter().find(|s| s.ready).map(|s| s.ip).unwrap_or_default();
        return probes::http_get(&shared.env, container, http, &address, &shared.config.address, limit).await;
    }
    Ok(())
}
