//! (19) After the faults, while all is well, one worker goes away: its node is not ready after the grace period and its
//! pods are to go after their toleration, neither much later nor before.

use std::time::Duration;

use keelstone_checkers::Violation;
use keelstone_client::{ClientResult, DynamicObject, ListOptions, Object};
use keelstone_controllers::node_lifecycle::zones::Rates;
use keelstone_machinery::gvk::GroupVersionResource;
use serde_json::{json, Value};
use tokio::time::Instant;

use super::{settle::condition, web, Scenario, NODE_GRACE, POD_STAYS_MIN, POD_TOLERATION_S};

const HOST: &str = "w2";
const OUTAGE: Duration = Duration::from_secs(22);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The last heartbeat may have come so long before the outage: the agent's period, and what it adds at random.
const HEARTBEAT_AGE_MAX: Duration = Duration::from_millis(1_500);
/// A master that ended with the last fault may hold the controllers' lease until it ends by itself.
const CONTROLLERS_BACK_WITHIN: Duration = Duration::from_secs(20);
/// How often the controller looks, what its write takes, and what a client needs to see it.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

/// # Errors
/// A node or a pod that was given up too early or too late.
pub async fn check(scenario: &Scenario) -> Result<(), Violation> {
    let fail = |story: String| Err(Violation::new("node loss in time (19)", story));
    let node = scenario.workers.last().map(|worker| worker.node.clone()).unwrap_or_default();
    // A controller that has just taken over gives every node its grace anew.
    if !controllers_are_back(scenario).await {
        return fail(format!(
            "nobody has held the controllers' lease for {CONTROLLERS_BACK_WITHIN:?} after the faults"
        ));
    }
    // One node in so long is tainted for eviction: the last fault may have used that up.
    tokio::time::sleep(Duration::from_secs_f64(1.0 / Rates::default().normal)).await;
    let begun = Instant::now();
    scenario.shared.ask_outage(HOST, OUTAGE);
    let latest = NODE_GRACE + NOTICED_WITHIN;
    let Some(not_ready) = until(latest, || is_not_ready(scenario, &node)).await else {
        return fail(format!("{node} is still ready {latest:?} after it went away"));
    };
    if not_ready < begun + NODE_GRACE - HEARTBEAT_AGE_MAX {
        return fail(format!("{node} was called not ready {:?} after it went away", not_ready - begun));
    }
    let latest = Duration::from_secs(POD_TOLERATION_S.unsigned_abs()) + NOTICED_WITHIN;
    let Some(left) = until(latest, || has_no_pods(scenario, &node)).await else {
        return fail(format!("{latest:?} after {node} was not ready it has pods that are not to go"));
    };
    // The pods' own checker sees each mark; this is for nodes without any.
    if left < not_ready + POD_STAYS_MIN {
        scenario.shared.saw("lost_node_was_empty");
    }
    scenario.shared.saw("node_lost");
    tokio::time::sleep_until(begun + OUTAGE).await;
    Ok(())
}

/// When it was first seen to hold, if that was within the time. A call that fails is made again.
async fn until<F>(within: Duration, holds: impl Fn() -> F) -> Option<Instant>
where
    F: std::future::Future<Output = ClientResult<bool>>,
{
    let end = Instant::now() + within;
    while Instant::now() < end {
        if holds().await.unwrap_or(false) {
            return Some(Instant::now());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    None
}

/// Who holds the controllers' lease, and when it was last renewed; `None` if nobody can be asked.
async fn renewed(scenario: &Scenario) -> Option<Value> {
    let leases = scenario.user(0).dynamic(&GroupVersionResource::new("coordination.k8s.io", "v1", "leases"));
    let lease = leases.within("kube-system").get("kube-controller-manager").await.ok()?;
    Some(json!([lease.0["spec"]["holderIdentity"], lease.0["spec"]["renewTime"]]))
}

/// Waits until the lease is renewed by somebody.
async fn controllers_are_back(scenario: &Scenario) -> bool {
    let end = Instant::now() + CONTROLLERS_BACK_WITHIN;
    let mut before = None;
    while Instant::now() < end {
        let now = renewed(scenario).await;
        if before.is_some() && now.is_some() && now != before {
            return true;
        }
        before = before.or(now);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    false
}

async fn is_not_ready(scenario: &Scenario, node: &str) -> ClientResult<bool> {
    let nodes = scenario.user(0).dynamic(&GroupVersionResource::new("", "v1", "nodes"));
    Ok(!condition(&nodes.get(node).await?, "Ready"))
}

async fn has_no_pods(scenario: &Scenario, node: &str) -> ClientResult<bool> {
    let pods = web::api(&scenario.user(0), "", "pods").list_all(&ListOptions::default()).await?.items;
    let stays = |pod: &DynamicObject| pod.0["spec"]["nodeName"] == node && !pod.is_terminating();
    Ok(!pods.iter().any(stays))
}
