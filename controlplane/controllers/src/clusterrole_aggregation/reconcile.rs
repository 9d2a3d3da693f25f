use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::ClusterRole;
use keelstone_client::{Client, Object, Patch, PatchOptions, Store};
use keelstone_runtime::{Action, Controller, ReconcileError, Reconciler, SharedInformers};
use serde_json::json;

use super::plan::plan;

/// Keeps the rules of aggregated ClusterRoles.
pub struct ClusterRoleAggregation {
    client: Client,
    roles: Store<ClusterRole>,
}

impl ClusterRoleAggregation {
    pub fn controller(client: &Client, informers: &SharedInformers) -> Controller {
        let client = client.named("clusterrole-aggregation-controller");
        let roles = informers.store::<ClusterRole>();
        let env = client.env().clone();
        let this = Self { client, roles: roles.clone() };
        let aggregated = {
            let roles = roles.clone();
            // Any role may be part of any aggregated one.
            move |_: &ClusterRole| {
                let all = roles.list();
                all.iter().filter(|role| role.aggregation_rule.is_some()).map(|role| role.key()).collect()
            }
        };
        Controller::new(&env, Arc::new(this)).watch_mapped(&roles, aggregated)
    }
}

#[async_trait]
impl Reconciler for ClusterRoleAggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        let Some(role) = self.roles.get(key).filter(|role| !role.is_terminating()) else { return Ok(Action::Done) };
        let Some(rules) = plan(&role, &self.roles.list()) else { return Ok(Action::Done) };
        let patch = Patch::Merge(json!({
            "metadata": {"uid": role.uid(), "resourceVersion": role.resource_version()}, "rules": rules,
        }));
        match self.client.resource::<ClusterRole>().patch(key, &patch, &PatchOptions::default()).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}
