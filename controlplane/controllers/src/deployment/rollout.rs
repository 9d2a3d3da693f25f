//! The two strategies: RollingUpdate and Recreate.

use keelstone_client::Object;

use super::{cleanup, plan::Draft, scale, sets, status};

/// Brings up the current template's pods and takes the others down, never more than `maxSurge` above and (of
/// those available) `maxUnavailable` below what is wanted. One step up or down in each reconciliation.
pub fn rolling(draft: &mut Draft<'_>) {
    draft.find_new_set(true);
    if grow_new(draft) || shrink_old(draft) {
        return;
    }
    finish(draft);
}

/// Takes all old pods down before the first new one is made.
pub fn recreate(draft: &mut Draft<'_>) {
    draft.find_new_set(false);
    let mut shrunk = false;
    for set in draft.old.clone() {
        if sets::replicas(&set) > 0 {
            shrunk |= draft.scale_set(set, 0);
        }
    }
    if shrunk || old_pods_are_running(draft) {
        return;
    }
    if draft.new.is_none() {
        draft.find_new_set(true);
    }
    if let Some(new) = draft.new.clone() {
        draft_scale(draft, new, sets::wanted(draft.deployment));
    }
    finish(draft);
}

fn finish(draft: &mut Draft<'_>) {
    if status::is_complete(draft.deployment, &draft.before) {
        cleanup::plan(draft);
    }
}

fn old_pods_are_running(draft: &Draft<'_>) -> bool {
    sets::actual_of(&draft.old) > 0 || draft.old.iter().any(|set| draft.running.contains(set.uid()))
}

/// Scales if the number differs; a set that only lacks annotations is left alone.
fn draft_scale(draft: &mut Draft<'_>, set: k8s_openapi::api::apps::v1::ReplicaSet, replicas: i32) -> bool {
    sets::replicas(&set) != replicas && draft.scale_set(set, replicas)
}

fn grow_new(draft: &mut Draft<'_>) -> bool {
    let Some(new) = draft.new.clone() else { return false };
    let wanted = sets::wanted(draft.deployment);
    let replicas = if sets::replicas(&new) > wanted {
        wanted
    } else {
        scale::new_replicas(draft.deployment, &draft.old, Some(&new))
    };
    draft_scale(draft, new, replicas)
}

fn shrink_old(draft: &mut Draft<'_>) -> bool {
    if sets::replicas_of(&draft.old) == 0 {
        return false;
    }
    let Some(new) = &draft.new else { return false };
    let available_min = sets::wanted(draft.deployment) - sets::max_unavailable(draft.deployment);
    let new_unavailable = sets::replicas(new) - sets::available(new);
    let may_go = sets::replicas_of(draft.all()) - available_min - new_unavailable;
    if may_go <= 0 {
        return false;
    }
    // Both count what is available before this step, so that pods given up in the first are not counted twice.
    let unhealthy = shrink_unhealthy(draft, may_go);
    let healthy = shrink_healthy(draft, available_min);
    unhealthy || healthy
}

/// Pods of old sets that are not available go first: they serve nobody.
fn shrink_unhealthy(draft: &mut Draft<'_>, may_go: i32) -> bool {
    let mut gone = 0;
    for set in draft.old.clone() {
        let (replicas, available) = (sets::replicas(&set), sets::available(&set));
        let step = (may_go - gone).min(replicas - available);
        if replicas > 0 && step > 0 {
            draft.scale_set(set, replicas - step);
            gone += step;
        }
    }
    gone > 0
}

fn shrink_healthy(draft: &mut Draft<'_>, available_min: i32) -> bool {
    let may_go = sets::available_of(draft.all()) - available_min;
    let mut gone = 0;
    for set in draft.old.clone() {
        let step = (may_go - gone).min(sets::replicas(&set));
        if step > 0 {
            let replicas = sets::replicas(&set) - step;
            draft.scale_set(set, replicas);
            gone += step;
        }
    }
    gone > 0
}
