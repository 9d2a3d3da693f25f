use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use keelstone_client::{Client, Object, Store};
use keelstone_runtime::{Action, Controller, ReconcileError, Reconciler, SharedInformers};

use super::plan::{plan, NAME};
use crate::common::namespaces;

/// Publishes the cluster's root certificates in each namespace.
pub struct RootCaPublisher {
    client: Client,
    namespaces: Store<Namespace>,
    maps: Store<ConfigMap>,
    root_ca: String,
}

impl RootCaPublisher {
    /// `root_ca` is PEM text.
    pub fn controller(client: &Client, informers: &SharedInformers, root_ca: &str) -> Controller {
        let client = client.named("root-ca-cert-publisher");
        let (namespaces, maps) = (informers.store::<Namespace>(), informers.store::<ConfigMap>());
        let env = client.env().clone();
        let this = Self { client, namespaces: namespaces.clone(), maps: maps.clone(), root_ca: root_ca.to_owned() };
        Controller::new(&env, Arc::new(this)).watch(&namespaces).watch_mapped(&maps, |map: &ConfigMap| {
            if map.name() == NAME {
                vec![map.namespace().to_owned()]
            } else {
                Vec::new()
            }
        })
    }
}

#[async_trait]
impl Reconciler for RootCaPublisher {
    fn name(&self) -> &'static str {
        "root-ca-cert-publisher"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        if !self.namespaces.get(key).is_some_and(|namespace| namespaces::is_active(&namespace)) {
            return Ok(Action::Done);
        }
        let existing = self.maps.get_in(key, NAME);
        let Some(wanted) = plan(key, &self.root_ca, existing.as_deref()) else { return Ok(Action::Done) };
        let api = self.client.resource::<ConfigMap>();
        let written = if existing.is_some() { api.update(&wanted).await } else { api.create(&wanted).await };
        match written {
            Err(error) if !namespaces::is_settled(&error) => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}
