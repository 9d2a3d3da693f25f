use keelstone_client::Object;

use super::{
    plan::{Action, Draft},
    sets,
};

const HISTORY_LIMIT: i32 = 10;

/// Deletes the oldest revisions above `revisionHistoryLimit` that have no pods.
pub fn plan(draft: &mut Draft<'_>) {
    let limit = usize::try_from(draft.deployment.spec.revision_history_limit.unwrap_or(HISTORY_LIMIT)).unwrap_or(0);
    let mut old: Vec<_> = draft.old.iter().filter(|set| !set.is_terminating()).cloned().collect();
    let surplus = old.len().saturating_sub(limit);
    old.sort_by(|a, b| sets::revision(a).cmp(&sets::revision(b)).then_with(|| sets::by_age(a, b)));
    for set in old.into_iter().take(surplus) {
        let status = set.status.clone().unwrap_or_default();
        let behind = set.metadata.generation.unwrap_or(0) > status.observed_generation.unwrap_or(0);
        if status.replicas == 0 && sets::replicas(&set) == 0 && !behind {
            draft.old.retain(|other| other.uid() != set.uid());
            draft.plan.actions.push(Action::Delete(set));
        }
    }
}
