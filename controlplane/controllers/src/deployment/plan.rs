use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet},
    jiff::Timestamp,
};
use keelstone_client::Object;

use super::{
    names::{PROGRESSING, REVISION, SCALING, SET_CREATED, SET_FOUND},
    revision, rollout, scale, sets, status,
};

/// What one look at a Deployment shows.
pub struct Observed<'a> {
    pub deployment: &'a Deployment,
    /// The ReplicaSets that it controls.
    pub sets: Vec<ReplicaSet>,
    /// Uids of the sets that have a pod which is not finished, a terminating one too.
    pub running: BTreeSet<String>,
    pub now: Timestamp,
}

/// One write of a ReplicaSet.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(ReplicaSet),
    /// To be written only if the set is still as it was seen.
    Update(ReplicaSet),
    Delete(ReplicaSet),
}

/// What is to be written, in this order: actions, then the Deployment's status.
#[derive(Debug, Default)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// With the action after whose success it is said: the reason is always `ScalingReplicaSet`.
    pub events: Vec<(usize, String)>,
    /// The Deployment with its new status and revision, if they differ.
    pub status: Option<Deployment>,
    /// Time alone may change the outcome after this long.
    pub again_in: Option<Duration>,
}

/// A Deployment's state in the course of one plan.
pub(super) struct Draft<'a> {
    pub deployment: &'a Deployment,
    pub new: Option<ReplicaSet>,
    pub old: Vec<ReplicaSet>,
    pub running: &'a BTreeSet<String>,
    pub now: Timestamp,
    pub revision: Option<String>,
    /// Conditions as they were found, and as decisions of this plan change them.
    pub before: DeploymentStatus,
    pub plan: Plan,
}

/// Decides what one reconciliation writes. Total: any combination of sets has a plan.
pub fn plan(observed: &Observed<'_>) -> Plan {
    let mut draft = Draft::new(observed);
    let deployment = observed.deployment;
    if deployment.is_terminating() {
        draft.finish_status(status::counted);
        return draft.plan;
    }
    status::note_pause(&mut draft);
    if deployment.spec.paused == Some(true) || scale::is_scaling(&draft) {
        draft.find_new_set(false);
        scale::scale(&mut draft);
        draft.finish_status(status::counted);
    } else if sets::is_rolling(deployment) {
        rollout::rolling(&mut draft);
        draft.finish_status(status::rollout);
    } else {
        rollout::recreate(&mut draft);
        draft.finish_status(status::rollout);
    }
    draft.plan
}

impl<'a> Draft<'a> {
    fn new(observed: &'a Observed<'a>) -> Self {
        let deployment = observed.deployment;
        let new = sets::find_new(deployment, &observed.sets).cloned();
        let uid = new.as_ref().map(|set| set.uid().to_owned());
        let mut old: Vec<_> = observed.sets.iter().filter(|set| Some(set.uid()) != uid.as_deref()).cloned().collect();
        old.sort_by(sets::by_age);
        Self {
            deployment,
            new,
            old,
            running: &observed.running,
            now: observed.now,
            revision: deployment.annotation(REVISION).map(str::to_owned),
            before: deployment.status.clone().unwrap_or_default(),
            plan: Plan::default(),
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    /// Brings the current template's set up to date, or (if asked to) makes it; numbers the revision.
    pub fn find_new_set(&mut self, create: bool) {
        let revision = self.old.iter().map(sets::revision).max().unwrap_or(0).saturating_add(1);
        match self.new.take() {
            Some(set) => self.refresh_new_set(set, revision),
            None if create => self.create_new_set(revision),
            None => {}
        }
    }

    fn refresh_new_set(&mut self, mut set: ReplicaSet, revision: i64) {
        let mut changed = revision::annotate_new(self.deployment, &mut set, revision, true);
        let min_ready_s = self.deployment.spec.min_ready_seconds.unwrap_or(0);
        if set.spec.min_ready_seconds.unwrap_or(0) != min_ready_s {
            set.spec.min_ready_seconds = Some(min_ready_s);
            changed = true;
        }
        self.revision = set.annotation(REVISION).map(str::to_owned);
        if status::deadline(self.deployment).is_some() && status::find(&self.before, PROGRESSING).is_none() {
            let message = format!("Found new replica set \"{}\"", set.name());
            status::set(&mut self.before, status::condition(PROGRESSING, "True", SET_FOUND, message, self.now));
        }
        if changed {
            self.update(set.clone());
        }
        self.new = Some(set);
    }

    fn create_new_set(&mut self, revision: i64) {
        let mut set = revision::new_set(self.deployment);
        revision::annotate_new(self.deployment, &mut set, revision, false);
        let replicas = scale::new_replicas(self.deployment, &self.old, None);
        set.spec.replicas = Some(replicas);
        let text = format!("Scaled up replica set {} from 0 to {replicas}", set.name());
        self.plan.actions.push(Action::Create(set.clone()));
        if replicas > 0 {
            self.plan.events.push((self.plan.actions.len() - 1, text));
        }
        if status::deadline(self.deployment).is_some() {
            let message = format!("Created new replica set \"{}\"", set.name());
            status::set(&mut self.before, status::condition(PROGRESSING, "True", SET_CREATED, message, self.now));
        }
        self.revision = Some(revision.to_string());
        self.new = Some(set);
    }

    /// Changes a set's number of replicas, if it is another; true if so.
    pub fn scale_set(&mut self, mut set: ReplicaSet, replicas: i32) -> bool {
        let before = sets::replicas(&set);
        let resized = before != replicas;
        set.spec.replicas = Some(replicas);
        if !sets::annotate_replicas(&mut set, self.deployment) && !resized {
            return false;
        }
        let direction = if replicas > before { "up" } else { "down" };
        let text = format!("Scaled {direction} replica set {} from {before} to {replicas}", set.name());
        self.replace(&set);
        self.update(set);
        if resized {
            self.plan.events.push((self.plan.actions.len() - 1, text));
        }
        resized
    }

    fn replace(&mut self, set: &ReplicaSet) {
        let places = self.old.iter_mut().chain(&mut self.new);
        places.filter(|place| place.name() == set.name()).for_each(|place| *place = set.clone());
    }

    /// One write for each set: later changes go into an earlier action of this plan.
    fn update(&mut self, set: ReplicaSet) {
        let position = self.plan.actions.iter().position(|action| match action {
            Action::Create(other) | Action::Update(other) => other.name() == set.name(),
            Action::Delete(_) => false,
        });
        // It moves to the end, so that events follow what they speak of.
        let action = match position {
            Some(at) => {
                for (index, _) in &mut self.plan.events {
                    if *index > at {
                        *index -= 1;
                    } else if *index == at {
                        *index = self.plan.actions.len() - 1;
                    }
                }
                match self.plan.actions.remove(at) {
                    Action::Create(_) => Action::Create(set),
                    _ => Action::Update(set),
                }
            }
            None => Action::Update(set),
        };
        self.plan.actions.push(action);
    }

    fn finish_status(&mut self, compute: impl Fn(&Draft<'_>) -> (DeploymentStatus, Option<Duration>)) {
        let (status, again_in) = compute(self);
        self.plan.again_in = again_in;
        let same = status::same(self.deployment.status.as_ref(), &status);
        if same && self.revision.as_deref() == self.deployment.annotation(REVISION) {
            return;
        }
        let mut changed = self.deployment.clone();
        changed.status = Some(status);
        if let Some(revision) = &self.revision {
            changed.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.clone());
        }
        self.plan.status = Some(changed);
    }
}

/// The reason of all events of a plan.
pub const EVENT_REASON: &str = SCALING;
