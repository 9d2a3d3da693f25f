use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Node, Pod, PodCondition, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};
use keelstone_client::{Client, ClientResult, DeleteOptions, EventRecorder, Object, Store};
use keelstone_env::fault::{self, Point, Sight};
use keelstone_runtime::{Action, Controller, ReconcileError, Reconciler, SharedInformers};
use tokio::time::Instant;

use super::plan::{self, Stay};
use crate::{
    common::{clock, pods},
    constants::CONTROLLER_WORKERS,
};

/// Evicts pods from tainted nodes once their tolerations have run out, never before.
pub struct TaintEviction {
    client: Client,
    pods: Store<Pod>,
    nodes: Store<Node>,
    events: EventRecorder,
    /// Since when this process knows that a pod has to go, by the pod's uid. The node's taints carry a time as
    /// well, but of another machine's clock.
    waiting: Mutex<BTreeMap<String, Instant>>,
    /// By key, so that a pod's entry goes with it.
    uids: Mutex<BTreeMap<String, String>>,
}

impl TaintEviction {
    pub fn controller(client: &Client, informers: &SharedInformers) -> Controller {
        let client = client.named("taint-eviction-controller");
        let (pods, nodes) = (informers.store::<Pod>(), informers.store::<Node>());
        pods::add_indexes(&pods);
        let env = client.env().clone();
        let this = Self {
            events: EventRecorder::new(&client, "taint-eviction-controller", ""),
            pods: pods.clone(),
            nodes: nodes.clone(),
            waiting: Mutex::default(),
            uids: Mutex::default(),
            client,
        };
        let on_node = {
            let pods = pods.clone();
            move |node: &Node| pods.by_index(pods::BY_NODE, node.name()).iter().map(|pod| pod.key()).collect()
        };
        Controller::new(&env, Arc::new(this)).workers(CONTROLLER_WORKERS).watch(&pods).watch_mapped(&nodes, on_node)
    }

    /// Forgets that a pod was to go; true if it was.
    fn forget(&self, key: &str) -> bool {
        let uid = self.uids.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        uid.is_some_and(|uid| self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid).is_some())
    }

    /// Since when the pod has been known to have to go; from now on, if it has not.
    fn since(&self, pod: &Pod, now: Instant) -> Instant {
        let mut uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = uids.insert(pod.key(), pod.uid().to_owned()).filter(|uid| uid != pod.uid()) {
            waiting.remove(&other);
        }
        *waiting.entry(pod.uid().to_owned()).or_insert(now)
    }

    /// Deletes the pod if its node, read past the cache, is still tainted so.
    async fn evict(&self, pod: &Pod) -> ClientResult<()> {
        let Some(node) = self.client.resource::<Node>().get_opt(pods::node_name(pod)).await? else {
            return Ok(());
        };
        if stay_of(pod, taints_of(&node)) == Stay::Forever {
            return Ok(());
        }
        fault::pause(Point::TaintEvict).await;
        fault::sight(Sight::PodEvicted);
        let api = self.client.namespaced::<Pod>(pod.namespace());
        let text = format!("Marking for deletion Pod {}", pod.key());
        self.events.normal(pod, "TaintManagerEviction", text);
        if let Some(marked) = mark(pod, clock::now(self.client.env())) {
            match api.update_status(&marked).await {
                Err(error) if error.is_not_found() => return Ok(()),
                marked => drop(marked?),
            }
        }
        match api.delete(pod.name(), &DeleteOptions::uid(pod.uid())).await {
            Err(error) if error.is_not_found() => Ok(()),
            deleted => deleted.map(drop),
        }
    }
}

fn taints_of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

fn stay_of(pod: &Pod, taints: &[Taint]) -> Stay {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    plan::stay(taints, tolerations.unwrap_or_default())
}

/// The pod with the condition that says why it goes; `None` if it has it.
fn mark(pod: &Pod, now: k8s_openapi::jiff::Timestamp) -> Option<Pod> {
    if pods::condition(pod, "DisruptionTarget").is_some_and(|condition| condition.status == "True") {
        return None;
    }
    let mut marked = pod.clone();
    let conditions = marked.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByTaintManager".to_owned()),
        message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    });
    Some(marked)
}

#[async_trait]
impl Reconciler for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        let Some(pod) = self.pods.get(key).filter(|pod| !pod.is_terminating()) else {
            self.forget(key);
            return Ok(Action::Done);
        };
        let node = self.nodes.get(pods::node_name(&pod));
        let stay = node.map_or(Stay::Forever, |node| stay_of(&pod, taints_of(&node)));
        let Stay::For(stay) = stay else {
            if self.forget(key) {
                let text = format!("Cancelling deletion of Pod {}", pod.key());
                self.events.normal(&*pod, "TaintManagerEviction", text);
            }
            return Ok(Action::Done);
        };
        let now = self.client.env().now();
        let left = (self.since(&pod, now) + stay).saturating_duration_since(now);
        if left > Duration::ZERO {
            return Ok(Action::Requeue(left));
        }
        self.evict(&pod).await?;
        Ok(Action::Done)
    }
}
