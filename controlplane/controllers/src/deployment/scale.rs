//! How replicas are divided among ReplicaSets when a Deployment's own number changes in the middle of a rollout.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::{cleanup, plan::Draft, sets};

/// The Deployment's number of replicas differs from what an active set was last made for.
pub fn is_scaling(draft: &Draft<'_>) -> bool {
    let wanted = sets::wanted(draft.deployment);
    let active = draft.all().filter(|set| sets::replicas(set) > 0);
    active.filter_map(sets::desired_annotation).any(|desired| desired != wanted)
}

/// How many replicas the current template's set may have without more pods than allowed in all.
pub fn new_replicas(deployment: &Deployment, old: &[ReplicaSet], new: Option<&ReplicaSet>) -> i32 {
    let wanted = sets::wanted(deployment);
    if !sets::is_rolling(deployment) {
        return wanted;
    }
    let have = new.map_or(0, sets::replicas);
    let pods = sets::replicas_of(old).saturating_add(have);
    let room = wanted.saturating_add(sets::max_surge(deployment)) - pods;
    if room <= 0 {
        return have;
    }
    have.saturating_add(room.min(wanted - have))
}

/// Brings the sets to the Deployment's number of replicas without a rollout.
pub fn scale(draft: &mut Draft<'_>) {
    let wanted = sets::wanted(draft.deployment);
    if let Some(only) = active_or_latest(draft) {
        if sets::replicas(&only) != wanted {
            draft.scale_set(only, wanted);
        }
    } else if draft.new.as_ref().is_some_and(|new| is_saturated(draft.deployment, new)) {
        for set in draft.old.clone().into_iter().filter(|set| sets::replicas(set) > 0) {
            draft.scale_set(set, 0);
        }
    } else if sets::is_rolling(draft.deployment) {
        proportional(draft);
    }
    if draft.deployment.spec.paused != Some(true) {
        return;
    }
    cleanup::plan(draft);
}

/// The one active set; without any, the newest. `None` if several are active.
fn active_or_latest(draft: &Draft<'_>) -> Option<ReplicaSet> {
    let mut active = draft.all().filter(|set| sets::replicas(set) > 0);
    match (active.next(), active.next()) {
        (None, _) => draft.new.clone().or_else(|| draft.old.last().cloned()),
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}

/// The current template's set has all replicas, and they are available.
fn is_saturated(deployment: &Deployment, new: &ReplicaSet) -> bool {
    let wanted = sets::wanted(deployment);
    sets::replicas(new) == wanted && sets::desired_annotation(new) == Some(wanted) && sets::available(new) == wanted
}

/// Divides what is to be added or taken among the active sets in proportion to their size, the rest going to
/// the largest.
fn proportional(draft: &mut Draft<'_>) {
    let deployment = draft.deployment;
    let mut active: Vec<_> = draft.all().filter(|set| sets::replicas(set) > 0).cloned().collect();
    let wanted = sets::wanted(deployment);
    let allowed = if wanted > 0 { wanted.saturating_add(sets::max_surge(deployment)) } else { 0 };
    let to_add = allowed - sets::replicas_of(&active);
    active.sort_by(|a, b| {
        let age = if to_add > 0 { sets::by_age(b, a) } else { sets::by_age(a, b) };
        sets::replicas(b).cmp(&sets::replicas(a)).then(age)
    });
    let mut added = 0;
    let mut sizes = Vec::new();
    for set in &active {
        let share = if to_add == 0 { 0 } else { share(deployment, set, to_add, added) };
        added += share;
        sizes.push(sets::replicas(set) + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in active.into_iter().zip(sizes) {
        draft.scale_set(set, size);
    }
}

fn share(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    let left = to_add - added;
    if sets::replicas(set) == 0 || left == 0 {
        return 0;
    }
    let fraction = fraction(deployment, set);
    if to_add > 0 {
        fraction.min(left)
    } else {
        fraction.max(left)
    }
}

/// By how much the set grows if it keeps its part of the whole.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let replicas = sets::replicas(set);
    let wanted = sets::wanted(deployment);
    if wanted == 0 {
        return -replicas;
    }
    let max = i64::from(wanted) + i64::from(sets::max_surge(deployment));
    let now = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    let before = i64::from(sets::max_annotation(set).filter(|max| *max > 0).unwrap_or(now));
    if before <= 0 {
        return 0;
    }
    let product = i64::from(replicas) * max;
    // Rounded half up, as the sizes are never negative.
    let size = (2 * product + before) / (2 * before);
    i32::try_from(size).unwrap_or(i32::MAX).saturating_sub(replicas)
}
