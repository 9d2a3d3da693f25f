use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use keelstone_client::{Client, Object, Store};
use keelstone_runtime::{Action, Controller, ReconcileError, Reconciler, SharedInformers};

use crate::common::namespaces;

const DEFAULT: &str = "default";

/// Makes the ServiceAccount `default`, again if it is deleted.
pub struct ServiceAccountController {
    client: Client,
    namespaces: Store<Namespace>,
    accounts: Store<ServiceAccount>,
}

impl ServiceAccountController {
    pub fn controller(client: &Client, informers: &SharedInformers) -> Controller {
        let client = client.named("service-account-controller");
        let (namespaces, accounts) = (informers.store::<Namespace>(), informers.store::<ServiceAccount>());
        let env = client.env().clone();
        let this = Self { client, namespaces: namespaces.clone(), accounts: accounts.clone() };
        Controller::new(&env, Arc::new(this))
            .watch(&namespaces)
            .watch_mapped(&accounts, |account: &ServiceAccount| vec![account.namespace().to_owned()])
    }
}

#[async_trait]
impl Reconciler for ServiceAccountController {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }

    async fn reconcile(&self, key: &str) -> Result<Action, ReconcileError> {
        let active = self.namespaces.get(key).is_some_and(|namespace| namespaces::is_active(&namespace));
        if !active || self.accounts.get_in(key, DEFAULT).is_some() {
            return Ok(Action::Done);
        }
        let metadata =
            ObjectMeta { name: Some(DEFAULT.to_owned()), namespace: Some(key.to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        match self.client.resource::<ServiceAccount>().create(&account).await {
            Err(error) if !namespaces::is_settled(&error) => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}
