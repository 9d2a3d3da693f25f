use std::sync::Arc;

use keelstone_env::Env;
use keelstone_machinery::{
    gvk::GroupResource,
    status::{ApiResult, ApiStatus},
};
use serde_json::Value;

use super::{account, namespace, node, pod_defaults, rbac};
use crate::{authz::Rbac, constants::TOLERATION_S_DEFAULT, Lister, User};

/// What admission is told to do.
#[derive(Clone, Debug)]
pub struct AdmissionConfig {
    /// tolerationSeconds that pods get for `not-ready` and `unreachable` nodes.
    pub not_ready_toleration_s: i64,
    pub unreachable_toleration_s: i64,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { not_ready_toleration_s: TOLERATION_S_DEFAULT, unreachable_toleration_s: TOLERATION_S_DEFAULT }
    }
}

/// The operation as admission sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// The request as admission sees it.
#[derive(Clone, Debug)]
pub struct Request {
    pub operation: Operation,
    pub user: User,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    /// Empty on creation with generateName.
    pub name: String,
}

impl Request {
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.resource.clone() }
    }

    /// The 403 answer of a plugin.
    pub fn forbidden(&self, message: &str) -> ApiStatus {
        ApiStatus::forbidden(&self.group_resource(), &self.name, message)
    }

    /// True for the resource itself, false for its subresources.
    pub(super) fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource && self.subresource.is_empty()
    }
}

/// The plugins that are on: NamespaceLifecycle, ServiceAccount, DefaultTolerationSeconds, Priority,
/// TaintNodesByCondition, NodeRestriction (writes), and the escalation checks of RBAC.
#[derive(Clone)]
pub struct Admission {
    env: Env,
    lister: Arc<dyn Lister>,
    rbac: Rbac,
    config: AdmissionConfig,
}

impl Admission {
    pub fn new(env: Env, lister: Arc<dyn Lister>, config: AdmissionConfig) -> Self {
        let rbac = Rbac::new(lister.clone());
        Self { env, lister, rbac, config }
    }

    /// Adds what the plugins add. `old` is the stored object of an update.
    ///
    /// # Errors
    /// 403 where what would have to be added is not there.
    pub async fn mutate(&self, request: &Request, object: &mut Value, _old: Option<&Value>) -> ApiResult<()> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        if request.is("", "pods") {
            namespace::check_create(request, &self.lister).await?;
            account::add_service_account(request, object, &self.lister, self.env.random()).await?;
            pod_defaults::add_tolerations(object, &self.config);
            pod_defaults::add_priority(request, object, &self.lister).await?;
        } else if request.is("", "nodes") {
            node::add_not_ready_taint(object);
        }
        Ok(())
    }

    /// Refuses what the plugins refuse. `object` is `None` for a deletion.
    ///
    /// # Errors
    /// 403; 404 for a namespace that is not there.
    pub async fn validate(&self, request: &Request, object: Option<&Value>, old: Option<&Value>) -> ApiResult<()> {
        match request.operation {
            Operation::Create => namespace::check_create(request, &self.lister).await?,
            Operation::Delete => namespace::check_delete(request)?,
            Operation::Update => {}
        }
        node::check_node_writes(request, object, old, &self.lister).await?;
        rbac::check_escalation(request, &self.rbac, object, old)
    }
}
