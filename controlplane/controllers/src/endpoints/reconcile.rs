use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use keelstone_client::{split_key, Client, DeleteOptions, Object, Store};
use keelstone_runtime::{
    constants::CATCH_UP_RETRY_MS, Action, Controller, Expectations, ReconcileError, Reconciler, SharedInformers,
};

use super::plan::{plan, Plan};
use crate::{
    common::{endpoints, selector},
    constants::CONTROLLER_WORKERS,
};

/// Keeps the Endpoints of Services.
pub struct EndpointsController {
    client: Client,
    services: Store<Service>,
    pods: Store<Pod>,
    endpoints: Store<Endpoints>,
    expectations: Expectations,
}

impl EndpointsController {
    pub fn controller(client: &Client, informers: &SharedInformers) -> Controller {
        let client = client.named("endpoint-controller");
        let (services, pods) = (informers.store::<Service>(), informers.store::<Pod>());
        let all = informers.store::<Endpoints>();
        let env = client.env().clone();
        let this = Self {
            services: services.clone(),
            pods: pods.clone(),
            endpoints: all.clone(),
            expectations: Expectations::new(&env),
            client,
        };
        let of_pod = {
            let services = services.clone();
            move |pod: &Pod| endpoints::services_of(pod, &services)
        };
        Controller::new(&env, Arc::new(this))
            .workers(CONTROLLER_WORKERS)
            .watch(&services)
            .watch_mapped(&pods, of_pod)
            .watch(&all)
    }

    /// A Service is gone, and its Endpoints go too; those that belong to nobody else.
    async fn service_gone(&self, key: &str) -> Result<Action, ReconcileError> {
        self.expectations.forget(key);
        let Some(left) = self.endpoints.get(key) else { return Ok(Action::Done) };
        if left.label("endpoints.kubernetes.io/managed-by") != Some("endpoint-controller") {
            return Ok(Action::Done);
        }
        let (namespace, name) = split_key(key);
        if self.client.namespaced::<Service>(namespace).get_opt(name).await?.is_some() {
            return Ok(Action::Requeue(Duration::from_millis(CATCH_UP_RETRY_MS)));
        }
        match self.client.namespaced::<Endpoints>(namespace).delete(name, &DeleteOptions::uid(left.uid())).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}

#[async_trait]
impl Reconciler for EndpointsController {
    fn name(&self) -> &'static str {
        "endpoint-controller"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        let (namespace, name) = split_key(key);
        let Some(service) = self.services.get_in(namespace, name) else { return self.service_gone(key).await };
        let Some(selector) = endpoints::selector_of(&service) else { return Ok(Action::Done) };
        if service.is_terminating() {
            return Ok(Action::Done);
        }
        let api = self.client.namespaced::<Endpoints>(namespace);
        if !self.expectations.caught_up(key, &api, &self.endpoints).await? {
            return Ok(Action::Requeue(Duration::from_millis(CATCH_UP_RETRY_MS)));
        }
        let mut selected = self.pods.list_in(namespace);
        selected.retain(|pod| selector::matches(&selector, pod.metadata.labels.as_ref()));
        let existing = self.endpoints.get(key);
        let result = match plan(&service, &selected, existing.as_deref()) {
            Plan::Nothing => return Ok(Action::Done),
            Plan::Create(new) => api.create(&new).await,
            Plan::Update(changed) => api.update(&changed).await,
        };
        self.expectations.wrote(key, &result);
        match result {
            Err(error) if !error.is_namespace_terminating() => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}
