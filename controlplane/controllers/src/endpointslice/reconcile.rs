use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use keelstone_client::{split_key, Client, ClientResult, DeleteOptions, EventRecorder, Index, Object, Store};
use keelstone_env::fault::{self, Point};
use keelstone_runtime::{
    constants::CATCH_UP_RETRY_MS, Action, Controller, Expectations, ReconcileError, Reconciler, SharedInformers,
};

use super::plan::{self, Plan, MANAGED_BY_LABEL, MANAGER, SERVICE_LABEL};
use crate::{
    common::{endpoints, selector},
    constants::CONTROLLER_WORKERS,
};

const BY_SERVICE: &str = "service";

/// Keeps the EndpointSlices of Services.
pub struct EndpointSliceController {
    client: Client,
    services: Store<Service>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    expectations: Expectations,
    events: EventRecorder,
}

impl EndpointSliceController {
    pub fn controller(client: &Client, informers: &SharedInformers) -> Controller {
        let client = client.named("endpoint-slice-controller");
        let services = informers.store::<Service>();
        let pods = informers.store::<Pod>();
        let slices = informers.store::<EndpointSlice>();
        slices.add_index(Index::new(BY_SERVICE, |slice: &EndpointSlice| service_of(slice).into_iter().collect()));
        let nodes = informers.store::<Node>();
        let env = client.env().clone();
        let this = Self {
            events: EventRecorder::new(&client, "endpoint-slice-controller", ""),
            services: services.clone(),
            pods: pods.clone(),
            slices: slices.clone(),
            expectations: Expectations::new(&env),
            nodes,
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
            .watch_mapped(&slices, |slice: &EndpointSlice| service_of(slice).into_iter().collect())
    }

    async fn act(&self, service: &Service, plan: Plan) -> ClientResult<()> {
        fault::pause(Point::EndpointsWrite).await;
        let key = service.key();
        let api = self.client.namespaced::<EndpointSlice>(service.namespace());
        for slice in &plan.create {
            let result = api.create(slice).await;
            self.expectations.wrote(&key, &result);
            result?;
        }
        for slice in &plan.update {
            let result = api.update(slice).await;
            self.expectations.wrote(&key, &result);
            result?;
        }
        for slice in &plan.delete {
            let result = api.delete(slice.name(), &DeleteOptions::uid(slice.uid())).await;
            self.expectations.deleted(&key, &**slice, &result);
            match result {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The key of the Service whose slice this is, if this controller manages it.
fn service_of(slice: &EndpointSlice) -> Option<String> {
    if slice.label(MANAGED_BY_LABEL) != Some(MANAGER) {
        return None;
    }
    slice.label(SERVICE_LABEL).map(|name| format!("{}/{name}", slice.namespace()))
}

#[async_trait]
impl Reconciler for EndpointSliceController {
    fn name(&self) -> &'static str {
        "endpoint-slice-controller"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        let (namespace, name) = split_key(key);
        // The slices of a Service that is gone go with it: they are its dependents.
        let Some(service) = self.services.get_in(namespace, name) else {
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        let Some(selector) = endpoints::selector_of(&service) else { return Ok(Action::Done) };
        if service.is_terminating() {
            return Ok(Action::Done);
        }
        if !self.expectations.caught_up(key, &self.client.resource::<EndpointSlice>(), &self.slices).await? {
            return Ok(Action::Requeue(Duration::from_millis(CATCH_UP_RETRY_MS)));
        }
        let mut selected = self.pods.list_in(namespace);
        selected.retain(|pod| selector::matches(&selector, pod.metadata.labels.as_ref()));
        let existing = self.slices.by_index(BY_SERVICE, key);
        let plan = plan::plan(&service, &selected, &existing, |node| plan::zone_of(&self.nodes, node));
        match self.act(&service, plan).await {
            Ok(()) => Ok(Action::Done),
            Err(error) if error.is_namespace_terminating() => Ok(Action::Done),
            Err(error) => {
                if !error.is_conflict() && !error.is_outcome_unknown() && !error.is_not_leader() {
                    let text = format!("Error updating Endpoint Slices for Service {key}: {error}");
                    self.events.warning(&*service, "FailedToUpdateEndpointSlices", text);
                }
                Err(error.into())
            }
        }
    }
}
