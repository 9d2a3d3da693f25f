use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{stream, StreamExt};
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use keelstone_client::{
    parse_version, split_key, Client, ClientError, ClientResult, DeleteOptions, EventRecorder, ListOptions, Object,
    Store,
};
use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point},
};
use keelstone_runtime::{
    constants::CATCH_UP_RETRY_MS, Action, Controller, Expectations, ReconcileError, Reconciler, SharedInformers,
};

use super::plan::{self, Failure};
use crate::{
    common::{
        clock,
        ownership::{self, Claim},
        pods, selector,
    },
    constants::{CONTROLLER_WORKERS, REQUESTS_PER_KEY_MAX, SLOW_START_BATCH},
};

/// Keeps the pods of ReplicaSets.
pub struct ReplicaSetController {
    client: Client,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    expectations: Expectations,
    /// The newest version that this controller's own writes for a set have led to. Unlike expectations it does
    /// not expire: counting pods in an older cache would create too many.
    written: Mutex<BTreeMap<String, u64>>,
    events: EventRecorder,
}

impl ReplicaSetController {
    pub fn controller(client: &Client, informers: &SharedInformers) -> Controller {
        let client = client.named("replicaset-controller");
        let (sets, pods) = (informers.store::<ReplicaSet>(), informers.store::<Pod>());
        pods::add_indexes(&pods);
        sets.add_index(keelstone_client::Index::controller());
        let env = client.env().clone();
        let this = Self {
            events: EventRecorder::new(&client, "replicaset-controller", ""),
            sets: sets.clone(),
            pods: pods.clone(),
            expectations: Expectations::new(&env),
            written: Mutex::default(),
            client,
        };
        let of_pod = {
            let sets = sets.clone();
            move |pod: &Pod| sets_of(pod, &sets)
        };
        Controller::new(&env, Arc::new(this)).workers(CONTROLLER_WORKERS).watch(&sets).watch_mapped(&pods, of_pod)
    }

    /// The pods of a set after adoption and release.
    async fn claim(&self, set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let selector = selector::of(&set.spec.selector);
        let mut candidates = self.pods.by_index(pods::BY_CONTROLLER, set.uid());
        candidates.extend(self.pods.by_index(pods::ORPHANS, set.namespace()));
        let api = self.client.resource::<Pod>();
        let mut mine = Vec::new();
        let mut may_adopt = false;
        for pod in candidates {
            if !pods::is_active(&pod) {
                continue;
            }
            let matches = selector::matches(&selector, pod.metadata.labels.as_ref());
            let references = pod.metadata.owner_references.as_ref();
            match ownership::claim(&*pod, set.uid(), set.is_terminating(), matches) {
                Claim::Keep => mine.push(pod),
                Claim::Ignore => {}
                Claim::Adopt => {
                    if !may_adopt {
                        ownership::check_may_adopt(&self.client.resource::<ReplicaSet>(), set).await?;
                        may_adopt = true;
                    }
                    let owner = ownership::controller_reference(set);
                    let adopted = ownership::adopt(&api, &*pod, references, owner).await;
                    self.wrote(&set.key(), &adopted);
                    match adopted {
                        Ok(adopted) => mine.push(Arc::new(adopted)),
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Claim::Release => match ownership::release(&api, &*pod, references, set.uid()).await {
                    Err(error) if !error.is_not_found() && !error.is_invalid() => return Err(error.into()),
                    _ => {}
                },
            }
        }
        Ok(mine)
    }

    /// Notes a write of a pod for a set.
    fn wrote(&self, key: &str, result: &ClientResult<Pod>) {
        self.expectations.wrote(key, result);
        if let Ok(pod) = result {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            let version = written.entry(key.to_owned()).or_default();
            *version = (*version).max(parse_version(pod.resource_version()));
        }
    }

    /// The active pods of a set, from the cache, or past it when the cache does not show this controller's own
    /// writes although they were waited for.
    async fn current(&self, set: &ReplicaSet, cached: Vec<Arc<Pod>>) -> ClientResult<Vec<Arc<Pod>>> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner).get(&set.key()).copied();
        let forgotten = bug::planted(Bug::ExpectationsForgotten);
        if forgotten || written.is_none_or(|version| self.pods.version() >= version) {
            return Ok(cached);
        }
        let all = self.client.namespaced::<Pod>(set.namespace()).list_all(&ListOptions::default()).await?;
        let mine = |pod: &Pod| pods::is_active(pod) && pod.controller_uid() == Some(set.uid());
        Ok(all.items.into_iter().filter(mine).map(Arc::new).collect())
    }

    /// Active pods of all sets with the same controller, by node.
    fn siblings_by_node(&self, set: &ReplicaSet) -> BTreeMap<String, usize> {
        let sets = match set.controller_uid() {
            Some(uid) => self.sets.by_index(pods::BY_CONTROLLER, uid),
            None => vec![Arc::new(set.clone())],
        };
        let pods: Vec<_> = sets.iter().flat_map(|s| self.pods.by_index(pods::BY_CONTROLLER, s.uid())).collect();
        plan::count_by_node(&pods)
    }

    /// Creates pods in batches that double while all goes well, so that a mistake in the template costs one
    /// request and not hundreds.
    async fn create(&self, set: &ReplicaSet, count: usize) -> Result<(), ClientError> {
        fault::pause(Point::ReplicaSetManage).await;
        let api = self.client.namespaced::<Pod>(set.namespace());
        let pod = plan::new_pod(set);
        let (mut left, mut batch) = (count, SLOW_START_BATCH);
        while left > 0 {
            let size = batch.min(left);
            let calls = (0..size).map(|_| api.create(&pod));
            let results: Vec<ClientResult<Pod>> =
                stream::iter(calls).buffer_unordered(REQUESTS_PER_KEY_MAX).collect().await;
            let mut failed = None;
            for result in results {
                self.wrote(&set.key(), &result);
                match result {
                    Ok(pod) => {
                        self.events.normal(set, "SuccessfulCreate", format!("Created pod: {}", pod.name()));
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                if !error.is_namespace_terminating() && !error.is_not_leader() {
                    self.events.warning(set, "FailedCreate", format!("Error creating: {error}"));
                }
                return Err(error);
            }
            left -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, set: &ReplicaSet, victims: Vec<Arc<Pod>>) -> Result<(), ClientError> {
        let api = self.client.namespaced::<Pod>(set.namespace());
        let calls = victims.into_iter().map(|pod| {
            let api = api.clone();
            async move {
                let result = api.delete(pod.name(), &DeleteOptions::uid(pod.uid())).await;
                (pod, result)
            }
        });
        let results: Vec<_> = stream::iter(calls).buffer_unordered(REQUESTS_PER_KEY_MAX).collect().await;
        let mut failed = None;
        for (pod, result) in results {
            self.expectations.deleted(&set.key(), &*pod, &result);
            match result {
                Ok(_) => self.events.normal(set, "SuccessfulDelete", format!("Deleted pod: {}", pod.name())),
                // Gone already, or another pod by now: the cache will say.
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    self.events.warning(set, "FailedDelete", format!("Error deleting: {error}"));
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        active: &[Arc<Pod>],
        failure: Option<&Failure>,
    ) -> ClientResult<Option<Duration>> {
        let (status, next) = plan::status(set, active, failure, clock::now(self.client.env()));
        let old = set.status.clone().unwrap_or_default();
        if plan::status_differs(&old, &status) {
            let changed = ReplicaSet { status: Some(status), ..set.clone() };
            self.client.resource::<ReplicaSet>().update_status(&changed).await?;
        }
        Ok(next)
    }
}

/// The sets that a pod may concern: its controller, or all whose selector it matches.
fn sets_of(pod: &Pod, sets: &Store<ReplicaSet>) -> Vec<String> {
    if let Some(owners) = &pod.metadata.owner_references {
        if let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)) {
            let mine = owner.kind == "ReplicaSet" && owner.api_version.starts_with("apps/");
            return mine.then(|| format!("{}/{}", pod.namespace(), owner.name)).into_iter().collect();
        }
    }
    let matches = |set: &ReplicaSet| selector::matches(&selector::of(&set.spec.selector), pod.metadata.labels.as_ref());
    sets.list_in(pod.namespace()).iter().filter(|set| matches(set)).map(|set| set.key()).collect()
}

#[async_trait]
impl Reconciler for ReplicaSetController {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        let (namespace, name) = split_key(key);
        let Some(set) = self.sets.get_in(namespace, name) else {
            self.expectations.forget(key);
            self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(Action::Done);
        };
        let caught_up = self.expectations.caught_up(key, &self.client.resource::<Pod>(), &self.pods).await?;
        let mut active = self.claim(&set).await?;
        let mut failed = None;
        if caught_up && !set.is_terminating() {
            active = self.current(&set, active).await?;
            let now = clock::now(self.client.env());
            let plan = plan::replicas(&set, &active, &self.siblings_by_node(&set), now);
            if plan.create > 0 {
                failed = self.create(&set, plan.create).await.err().map(|error| ("FailedCreate", error));
            } else if !plan.delete.is_empty() {
                failed = self.delete(&set, plan.delete).await.err().map(|error| ("FailedDelete", error));
            }
        }
        if let Some((_, error)) = &failed {
            // Nothing can be created here any more, and the set itself goes soon.
            if error.is_namespace_terminating() {
                return Ok(Action::Done);
            }
        }
        let failure = failed.as_ref().map(|(reason, error)| Failure { reason, message: error.to_string() });
        let next = self.write_status(&set, &active, failure.as_ref()).await?;
        match (failed, next) {
            (Some((_, error)), _) => Err(error.into()),
            (None, _) if !caught_up => Ok(Action::Requeue(Duration::from_millis(CATCH_UP_RETRY_MS))),
            (None, Some(next)) => Ok(Action::Requeue(next)),
            (None, None) => Ok(Action::Done),
        }
    }
}
