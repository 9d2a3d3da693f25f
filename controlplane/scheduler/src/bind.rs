use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use keelstone_client::{Api, Client};

use crate::{
    constants::{BINDING_CHECK_MS, BINDING_UNCERTAIN_MS},
    pod_info::{node_of, PodInfo},
};
use keelstone_env::fault::{self, Point};

/// What became of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod is assigned to the node.
    Bound,
    /// The pod is assigned to another node, or it is gone or another pod by that name: nothing is left to do.
    Settled,
    /// The pod is still unassigned.
    Failed(String),
}

/// Assigns a pod to a node, and does not return before it is known whether that has taken effect.
pub async fn bind(client: Client, pod: Arc<PodInfo>, node: String) -> Outcome {
    let api = client.namespaced::<Pod>(pod.namespace());
    let name = keelstone_client::Object::name(&*pod.pod);
    fault::pause(Point::SchedulerBind).await;
    match api.bind(name, pod.uid(), &node).await {
        Ok(()) => Outcome::Bound,
        Err(error) if error.is_not_found() => Outcome::Settled,
        Err(error) if error.is_conflict() => find_out(&api, name, &pod, &node).await,
        Err(error) if error.is_outcome_unknown() => {
            tracing::info!(pod = %pod.key, node, %error, "a binding's outcome is unknown; finding out");
            tokio::time::sleep(Duration::from_millis(BINDING_UNCERTAIN_MS)).await;
            find_out(&api, name, &pod, &node).await
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Reads the pod until an API server says what it is now.
async fn find_out(api: &Api<Pod>, name: &str, pod: &PodInfo, node: &str) -> Outcome {
    loop {
        match api.get_opt(name).await {
            Ok(None) => return Outcome::Settled,
            Ok(Some(now)) if keelstone_client::Object::uid(&now) != pod.uid() => return Outcome::Settled,
            Ok(Some(now)) if node_of(&now) == node => return Outcome::Bound,
            Ok(Some(now)) if node_of(&now).is_empty() => return Outcome::Failed("the pod is still unassigned".into()),
            Ok(Some(_)) => return Outcome::Settled,
            Err(error) => {
                tracing::debug!(pod = %pod.key, %error, "could not read a pod");
                tokio::time::sleep(Duration::from_millis(BINDING_CHECK_MS)).await;
            }
        }
    }
}
