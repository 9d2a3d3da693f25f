use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use keelstone_client::{
    split_key, Client, ClientError, ClientResult, DeleteOptions, EventRecorder, Index, Object, Store,
};
use keelstone_env::fault::{self, Point};
use keelstone_runtime::{
    constants::CATCH_UP_RETRY_MS, Action as Next, Controller, Expectations, ReconcileError, Reconciler, SharedInformers,
};

use super::{
    names::{PROGRESSING, SET_FAILED},
    plan::{plan, Action, Observed, Plan, EVENT_REASON},
    sets, status,
};
use crate::{
    common::{
        clock,
        ownership::{self, Claim},
        pods, selector,
    },
    constants::CONTROLLER_WORKERS,
};

/// Rolls Deployments out.
pub struct DeploymentController {
    client: Client,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    expectations: Expectations,
    events: EventRecorder,
}

impl DeploymentController {
    pub fn controller(client: &Client, informers: &SharedInformers) -> Controller {
        let client = client.named("deployment-controller");
        let deployments = informers.store::<Deployment>();
        let (sets, pods) = (informers.store::<ReplicaSet>(), informers.store::<Pod>());
        pods::add_indexes(&pods);
        sets.add_index(Index::controller());
        sets.add_index(pods::orphans());
        let env = client.env().clone();
        let this = Self {
            events: EventRecorder::new(&client, "deployment-controller", ""),
            deployments: deployments.clone(),
            sets: sets.clone(),
            pods: pods.clone(),
            expectations: Expectations::new(&env),
            client,
        };
        let of_set = {
            let deployments = deployments.clone();
            move |set: &ReplicaSet| deployments_of(set, &deployments)
        };
        let of_pod = {
            let (deployments, sets) = (deployments.clone(), sets.clone());
            move |pod: &Pod| recreated_by(pod, &sets, &deployments)
        };
        Controller::new(&env, Arc::new(this))
            .workers(CONTROLLER_WORKERS)
            .watch(&deployments)
            .watch_mapped(&sets, of_set)
            .watch_mapped(&pods, of_pod)
    }

    /// The ReplicaSets of a Deployment after adoption and release.
    async fn claim(&self, deployment: &Deployment) -> Result<Vec<ReplicaSet>, ReconcileError> {
        let selector = selector::of(&deployment.spec.selector);
        let mut candidates = self.sets.by_index(pods::BY_CONTROLLER, deployment.uid());
        candidates.extend(self.sets.by_index(pods::ORPHANS, deployment.namespace()));
        let api = self.client.resource::<ReplicaSet>();
        let mut mine = Vec::new();
        let mut may_adopt = false;
        for set in candidates {
            let matches = selector::matches(&selector, set.metadata.labels.as_ref());
            let references = set.metadata.owner_references.as_ref();
            match ownership::claim(&*set, deployment.uid(), deployment.is_terminating(), matches) {
                Claim::Keep => mine.push((*set).clone()),
                Claim::Ignore => {}
                Claim::Adopt => {
                    if !may_adopt {
                        ownership::check_may_adopt(&self.client.resource::<Deployment>(), deployment).await?;
                        may_adopt = true;
                    }
                    let owner = ownership::controller_reference(deployment);
                    let adopted = ownership::adopt(&api, &*set, references, owner).await;
                    self.expectations.wrote(&deployment.key(), &adopted);
                    match adopted {
                        Ok(adopted) => mine.push(adopted),
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Claim::Release => match ownership::release(&api, &*set, references, deployment.uid()).await {
                    Err(error) if !error.is_not_found() && !error.is_invalid() => return Err(error.into()),
                    _ => {}
                },
            }
        }
        Ok(mine)
    }

    fn running(&self, sets: &[ReplicaSet]) -> BTreeSet<String> {
        let runs = |set: &&ReplicaSet| {
            self.pods.by_index(pods::BY_CONTROLLER, set.uid()).iter().any(|pod| !pods::is_finished(pod))
        };
        sets.iter().filter(runs).map(|set| set.uid().to_owned()).collect()
    }

    /// Writes the actions in order, each only if those before it succeeded.
    async fn act(&self, deployment: &Deployment, plan: &Plan) -> Result<(), ReconcileError> {
        fault::pause(Point::DeploymentRollout).await;
        let api = self.client.namespaced::<ReplicaSet>(deployment.namespace());
        let key = deployment.key();
        for (index, action) in plan.actions.iter().enumerate() {
            match action {
                Action::Create(set) => self.create(deployment, set).await?,
                Action::Update(set) => {
                    let result = api.update(set).await;
                    self.expectations.wrote(&key, &result);
                    result?;
                }
                Action::Delete(set) => {
                    let result = api.delete(set.name(), &DeleteOptions::uid(set.uid())).await;
                    self.expectations.deleted(&key, set, &result);
                    match result {
                        Err(error) if !error.is_not_found() => return Err(error.into()),
                        _ => {}
                    }
                }
            }
            for (_, text) in plan.events.iter().filter(|(at, _)| *at == index) {
                self.events.normal(deployment, EVENT_REASON, text.as_str());
            }
        }
        Ok(())
    }

    async fn create(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<(), ReconcileError> {
        let api = self.client.namespaced::<ReplicaSet>(deployment.namespace());
        let result = api.create(set).await;
        self.expectations.wrote(&deployment.key(), &result);
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() => self.resolve_collision(deployment, set).await,
            Err(error) => {
                if !error.is_namespace_terminating() && !error.is_outcome_unknown() && !error.is_not_leader() {
                    self.say_create_failed(deployment, set, &error).await?;
                }
                Err(error.into())
            }
        }
    }

    /// A set of that name exists. If it is the one that was wanted the cache was behind; else the hash is taken
    /// by another template, and the next try uses another hash.
    async fn resolve_collision(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<(), ReconcileError> {
        let api = self.client.namespaced::<ReplicaSet>(deployment.namespace());
        let live = api.get(set.name()).await;
        self.expectations.wrote(&deployment.key(), &live);
        let live = live?;
        let mine = live.controller_uid() == Some(deployment.uid());
        if mine && sets::same_template(live.spec.template.as_ref(), set.spec.template.as_ref()) {
            return Err(ReconcileError::Other(format!("{} was created before", live.key())));
        }
        let mut changed = deployment.clone();
        let status = changed.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        self.client.resource::<Deployment>().update_status(&changed).await?;
        Err(ReconcileError::Other(format!("the name {} is taken by another template", live.key())))
    }

    async fn say_create_failed(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        error: &ClientError,
    ) -> ClientResult<()> {
        let message = format!("Failed to create new replica set \"{}\": {error}", set.name());
        self.events.warning(deployment, SET_FAILED, message.as_str());
        if status::deadline(deployment).is_none() {
            return Ok(());
        }
        let mut changed = deployment.clone();
        let now = clock::now(self.client.env());
        let failed = status::condition(PROGRESSING, "False", SET_FAILED, message, now);
        status::set(changed.status.get_or_insert_default(), failed);
        if changed.status != deployment.status {
            self.client.resource::<Deployment>().update_status(&changed).await?;
        }
        Ok(())
    }
}

/// The Deployments that a ReplicaSet may concern: its controller, or all whose selector it matches.
fn deployments_of(set: &ReplicaSet, deployments: &Store<Deployment>) -> Vec<String> {
    if set.controller_uid().is_some() {
        let owners = set.metadata.owner_references.iter().flatten();
        let owner = owners.filter(|o| o.controller == Some(true) && o.kind == "Deployment");
        return owner.map(|owner| format!("{}/{}", set.namespace(), owner.name)).collect();
    }
    let matches = |deployment: &Arc<Deployment>| {
        selector::matches(&selector::of(&deployment.spec.selector), set.metadata.labels.as_ref())
    };
    deployments.list_in(set.namespace()).iter().filter(|d| matches(d)).map(|d| d.key()).collect()
}

/// The Deployment that waits for a pod to end before it makes new ones: only with the strategy Recreate.
fn recreated_by(pod: &Pod, sets: &Store<ReplicaSet>, deployments: &Store<Deployment>) -> Vec<String> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let set = owners
        .filter(|o| o.controller == Some(true) && o.kind == "ReplicaSet")
        .find_map(|owner| sets.get_in(pod.namespace(), &owner.name).filter(|set| set.uid() == owner.uid));
    let keys = set.map(|set| deployments_of(&set, deployments)).unwrap_or_default();
    let recreates = |key: &String| deployments.get(key).is_some_and(|d| !sets::is_rolling(&d));
    keys.into_iter().filter(recreates).collect()
}

#[async_trait]
impl Reconciler for DeploymentController {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    async fn reconcile(&self, key: &str) -> Result<Next, ReconcileError> {
        let (namespace, name) = split_key(key);
        let Some(deployment) = self.deployments.get_in(namespace, name) else {
            self.expectations.forget(key);
            return Ok(Next::Done);
        };
        if !self.expectations.caught_up(key, &self.client.resource::<ReplicaSet>(), &self.sets).await? {
            return Ok(Next::Requeue(Duration::from_millis(CATCH_UP_RETRY_MS)));
        }
        let sets = self.claim(&deployment).await?;
        let running = self.running(&sets);
        let now = clock::now(self.client.env());
        let plan = plan(&Observed { deployment: &deployment, sets, running, now });
        match self.act(&deployment, &plan).await {
            Err(ReconcileError::Client(error)) if error.is_namespace_terminating() => return Ok(Next::Done),
            acted => acted?,
        }
        if let Some(changed) = &plan.status {
            self.client.resource::<Deployment>().update_status(changed).await?;
        }
        Ok(plan.again_in.map_or(Next::Done, Next::Requeue))
    }
}
