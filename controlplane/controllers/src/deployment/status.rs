use std::time::Duration;

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use keelstone_client::Object;

use super::{
    names::{
        AVAILABLE, MINIMUM_AVAILABLE, MINIMUM_UNAVAILABLE, PAUSED, PROGRESSING, REPLICA_FAILURE, RESUMED,
        SET_AVAILABLE, SET_UPDATED, TIMED_OUT,
    },
    plan::Draft,
    sets,
};
use crate::common::clock;

/// How long a rollout may go without progress; `None` if it may for ever.
pub fn deadline(deployment: &Deployment) -> Option<Duration> {
    deployment.spec.progress_deadline_seconds.filter(|s| *s != i32::MAX).map(clock::seconds)
}

pub fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_.as_deref() == Some(kind))
}

pub fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Puts a condition in, unless one of the same status and reason is there.
pub fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let kind = condition.type_.clone().unwrap_or_default();
    if let Some(current) = find(status, &kind) {
        if current.status == condition.status && current.reason == condition.reason {
            return;
        }
        if current.status == condition.status {
            condition.last_transition_time = current.last_transition_time.clone();
        }
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(condition);
}

pub fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(kind));
    }
}

/// Says in the Progressing condition that the deadline's clock stands still, or runs again.
pub fn note_pause(draft: &mut Draft<'_>) {
    if deadline(draft.deployment).is_none() {
        return;
    }
    let reason = find(&draft.before, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    if reason == Some(TIMED_OUT) {
        return;
    }
    let paused = draft.deployment.spec.paused == Some(true);
    let condition = match (paused, reason == Some(PAUSED)) {
        (true, false) => condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".into(), draft.now),
        (false, true) => condition(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".into(), draft.now),
        _ => return,
    };
    set(&mut draft.before, condition);
}

/// The status as the sets imply it, without judging progress.
pub fn counted(draft: &Draft<'_>) -> (DeploymentStatus, Option<Duration>) {
    let deployment = draft.deployment;
    let available = sets::available_of(draft.all());
    let updated = sets::actual_of(&draft.new);
    let some = |count: i32| Some(count);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sets::actual_of(draft.all())),
        updated_replicas: some(updated),
        ready_replicas: some(sets::ready_of(draft.all())),
        available_replicas: some(available),
        unavailable_replicas: some((sets::replicas_of(draft.all()) - available).max(0)),
        ..draft.before.clone()
    };
    let minimum = sets::wanted(deployment) - sets::max_unavailable(deployment);
    let (value, reason, message) = if available >= minimum {
        ("True", MINIMUM_AVAILABLE, "Deployment has minimum availability.")
    } else {
        ("False", MINIMUM_UNAVAILABLE, "Deployment does not have minimum availability.")
    };
    set(&mut status, condition(AVAILABLE, value, reason, message.into(), draft.now));
    (status, None)
}

/// The status during and after a rollout, with its progress judged against the deadline.
pub fn rollout(draft: &Draft<'_>) -> (DeploymentStatus, Option<Duration>) {
    let deployment = draft.deployment;
    let (mut status, _) = counted(draft);
    let current = find(&draft.before, PROGRESSING).cloned();
    let settled = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|condition| condition.reason.as_deref() == Some(SET_AVAILABLE));
    match deadline(deployment) {
        None => remove(&mut status, PROGRESSING),
        Some(deadline) if !settled => judge(draft, &mut status, current.as_ref(), deadline),
        Some(_) => {}
    }
    remove(&mut status, REPLICA_FAILURE);
    if let Some(failure) = replica_failure(draft) {
        set(&mut status, failure);
    }
    // A failure that persists keeps its times.
    if let (Some(old), Some(new)) = (find(&draft.before, REPLICA_FAILURE), find(&status, REPLICA_FAILURE)) {
        if old.status == new.status && old.reason == new.reason {
            let old = old.clone();
            remove(&mut status, REPLICA_FAILURE);
            status.conditions.get_or_insert_default().push(old);
        }
    }
    let again_in = stuck_in(draft, &status);
    (status, again_in)
}

fn judge(draft: &Draft<'_>, status: &mut DeploymentStatus, current: Option<&DeploymentCondition>, deadline: Duration) {
    let subject = match &draft.new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name()),
        None => format!("Deployment \"{}\"", draft.deployment.name()),
    };
    if is_complete(draft.deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, condition(PROGRESSING, "True", SET_AVAILABLE, message, draft.now));
    } else if has_progressed(&draft.deployment.status.clone().unwrap_or_default(), status) {
        let message = format!("{subject} is progressing.");
        let mut progressing = condition(PROGRESSING, "True", SET_UPDATED, message, draft.now);
        if let Some(current) = current.filter(|current| current.status.as_deref() == Some("True")) {
            progressing.last_transition_time = current.last_transition_time.clone();
        }
        // The time of the last update counts for the deadline, so it is replaced even if nothing else changed.
        remove(status, PROGRESSING);
        set(status, progressing);
    } else if is_timed_out(status, deadline, draft.now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, condition(PROGRESSING, "False", TIMED_OUT, message, draft.now));
    }
}

/// All replicas are of the current template and available, and this was computed for the newest spec.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = sets::wanted(deployment);
    let is = |count: Option<i32>| count.unwrap_or(0) == wanted;
    is(status.updated_replicas)
        && is(status.replicas)
        && is(status.available_replicas)
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |value: Option<i32>| value.unwrap_or(0);
    let old_pods = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || old_pods(new) < old_pods(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn is_timed_out(status: &DeploymentStatus, deadline: Duration, now: Timestamp) -> bool {
    let Some(condition) = find(status, PROGRESSING) else { return false };
    match condition.reason.as_deref() {
        Some(SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => clock::age(condition.last_update_time.as_ref(), now) > deadline,
    }
}

/// When the deadline passes, if the rollout is still on.
fn stuck_in(draft: &Draft<'_>, status: &DeploymentStatus) -> Option<Duration> {
    let deadline = deadline(draft.deployment)?;
    let condition = find(status, PROGRESSING)?;
    let over = matches!(condition.reason.as_deref(), Some(TIMED_OUT | SET_AVAILABLE));
    if over || is_complete(draft.deployment, status) {
        return None;
    }
    let left = deadline.saturating_sub(clock::age(condition.last_update_time.as_ref(), draft.now));
    // Times have whole seconds; the deadline must have passed, not just be reached.
    Some(left + Duration::from_secs(1))
}

/// Why a set cannot make its pods: of the new one if it says, else of any old one.
fn replica_failure(draft: &Draft<'_>) -> Option<DeploymentCondition> {
    let failure = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_.as_deref() == Some(REPLICA_FAILURE)).cloned()
    };
    let found = draft.new.iter().chain(&draft.old).find_map(failure)?;
    Some(DeploymentCondition {
        type_: found.type_,
        status: found.status,
        reason: found.reason,
        message: found.message,
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time,
    })
}

/// Whether a new status would look the same to readers: the order of conditions does not count, nor does the
/// difference between a count of 0 and none.
pub fn same(old: Option<&DeploymentStatus>, new: &DeploymentStatus) -> bool {
    let old = old.cloned().unwrap_or_default();
    let plain = |status: &DeploymentStatus| {
        let mut status = status.clone();
        for count in [
            &mut status.replicas,
            &mut status.updated_replicas,
            &mut status.ready_replicas,
            &mut status.available_replicas,
            &mut status.unavailable_replicas,
        ] {
            *count = Some(count.unwrap_or(0));
        }
        let mut conditions = status.conditions.unwrap_or_default();
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        status.conditions = Some(conditions);
        status
    };
    plain(&old) == plain(new)
}
