use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use keelstone_client::{
    Client, ClientError, ClientResult, DeleteOptions, DynamicObject, ListOptions, Object, Propagation, Store,
};
use keelstone_env::fault::{self, Point};
use keelstone_runtime::{Action, Controller, ReconcileError, Reconciler, SharedInformers};

use super::plan::{self, Outcome};
use crate::{
    common::{
        clock,
        discovery::{self, Served, ServedResource},
    },
    constants::{CONTROLLER_WORKERS, NAMESPACE_RECHECK_MS},
};

/// Empties namespaces that are being deleted.
pub struct NamespaceController {
    client: Client,
    namespaces: Store<Namespace>,
}

impl NamespaceController {
    pub fn controller(client: &Client, informers: &SharedInformers) -> Controller {
        let client = client.named("namespace-controller");
        let namespaces = informers.store::<Namespace>();
        let env = client.env().clone();
        let this = Self { client, namespaces: namespaces.clone() };
        Controller::new(&env, Arc::new(this)).workers(CONTROLLER_WORKERS).watch(&namespaces)
    }

    /// Deletes everything that may be deleted by now, and says what is left.
    async fn empty(&self, namespace: &str, served: &Served) -> Result<Outcome, ClientError> {
        fault::pause(Point::NamespaceDelete).await;
        let mut outcome = Outcome {
            undiscovered: served.failed.iter().map(|(group, error)| format!("{group}: {error}")).collect(),
            ..Outcome::default()
        };
        for stage in plan::stages(served) {
            for resource in &stage {
                match self.empty_resource(namespace, resource, &mut outcome).await {
                    Ok(()) => {}
                    Err(error) if error.is_not_leader() => return Err(error),
                    // Not served (any more) in this form: there is nothing to delete.
                    Err(error) if matches!(error.code(), 404 | 405) => {}
                    Err(error) => outcome.failed.push(format!("{}: {error}", resource.gvr.group_resource())),
                }
            }
            if !outcome.remaining.is_empty() || !outcome.failed.is_empty() {
                break;
            }
        }
        Ok(outcome)
    }

    async fn empty_resource(
        &self,
        namespace: &str,
        resource: &ServedResource,
        outcome: &mut Outcome,
    ) -> ClientResult<()> {
        let api = self.client.dynamic(&resource.gvr).within(namespace);
        let everything = ListOptions::default();
        let mut items = api.list_all(&everything).await?.items;
        let untouched = |items: &[DynamicObject]| items.iter().any(|item| !item.is_terminating());
        if untouched(&items) {
            let background = DeleteOptions::default().propagation(Propagation::Background);
            if resource.allows(&["deletecollection"]) {
                api.delete_collection(&background, &everything).await?;
            } else {
                for item in items.iter().filter(|item| !item.is_terminating()) {
                    match api.delete(item.name(), &background).await {
                        Err(error) if !error.is_not_found() => return Err(error),
                        _ => {}
                    }
                }
            }
            items = api.list_all(&everything).await?.items;
        }
        if items.is_empty() {
            return Ok(());
        }
        let name = format!("{}.{}", resource.gvr.resource, resource.gvr.group);
        outcome.remaining.insert(name, items.len());
        for item in &items {
            for finalizer in item.0["metadata"]["finalizers"].as_array().into_iter().flatten() {
                let finalizer = finalizer.as_str().unwrap_or_default().to_owned();
                *outcome.finalizers.entry(finalizer).or_default() += 1;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Reconciler for NamespaceController {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        if !self.namespaces.get(key).is_some_and(|namespace| plan::needs_emptying(&namespace)) {
            return Ok(Action::Done);
        }
        let api = self.client.resource::<Namespace>();
        let Some(mut namespace) = api.get_opt(key).await? else { return Ok(Action::Done) };
        if !plan::needs_emptying(&namespace) {
            return Ok(Action::Done);
        }
        let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase != Some("Terminating") {
            namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
            namespace = api.update_status(&namespace).await?;
        }
        let served = discovery::served(&self.client).await?;
        let outcome = self.empty(key, &served).await?;
        let status = plan::status(namespace.status.as_ref(), &outcome, clock::now(self.client.env()));
        if outcome.is_empty() {
            match api.update_subresource::<Namespace>(key, "finalize", &plan::emptied(&namespace)).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => return Ok(Action::Done),
            }
        }
        if namespace.status.as_ref() != Some(&status) {
            namespace.status = Some(status);
            api.update_status(&namespace).await?;
        }
        Ok(Action::Requeue(Duration::from_millis(NAMESPACE_RECHECK_MS)))
    }
}
