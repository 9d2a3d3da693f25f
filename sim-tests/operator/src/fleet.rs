//! An operator as anybody might write it: for each ConfigMap labelled `fleet` it keeps as many Secrets, its
//! ships, as the ConfigMap's `size` says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    api::{Api, PostParams},
    runtime::{
        controller::Action,
        reflector::{self, Store},
        watcher, Controller, WatchStreamExt,
    },
    Client, ResourceExt,
};

/// The label of fleets, and that of ships with their fleet's name.
pub const FLEET: &str = "fleet";
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How a new ship gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The fleet and a number: who makes a ship that exists already is told so.
    Numbered,
    /// The planted bug: the server draws a name. What the cache does not show yet is made once more.
    Drawn,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("the API: {0}")]
    Api(#[source] Box<kube::Error>),
}

impl From<kube::Error> for FleetError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

struct Operator {
    client: Client,
    ships: Store<Secret>,
    naming: Naming,
}

/// Runs the operator until it is dropped.
pub async fn run(client: Client, naming: Naming) {
    let (ships, writer) = reflector::store();
    let kept = watcher(Api::<Secret>::default_namespaced(client.clone()), watcher::Config::default().labels(FLEET));
    let keep = kept.default_backoff().reflect(writer).for_each(|event| async move {
        if let Err(error) = event {
            tracing::debug!(%error, "the watch of ships begins again");
        }
    });
    let fleets = Api::<ConfigMap>::default_namespaced(client.clone());
    let operator = Arc::new(Operator { client, ships, naming });
    let reconcile_all = async {
        // A writer that is gone means that the operator ends.
        let _ = operator.ships.wait_until_ready().await;
        Controller::new(fleets, watcher::Config::default().labels(FLEET))
            .run(reconcile, on_error, operator.clone())
            .for_each(|_| async {})
            .await;
    };
    tokio::join!(keep, reconcile_all);
}

async fn reconcile(fleet: Arc<ConfigMap>, operator: Arc<Operator>) -> Result<Action, FleetError> {
    let size = fleet.data.as_ref().and_then(|data| data.get("size")).and_then(|size| size.parse().ok()).unwrap_or(0);
    let name = fleet.name_any();
    let own = |ship: &&Arc<Secret>| ship.labels().get(FLEET) == Some(&name);
    let known: BTreeSet<String> = operator.ships.state().iter().filter(own).map(|ship| ship.name_any()).collect();
    for ship in missing(&name, size, &known, operator.naming) {
        match Api::<Secret>::default_namespaced(operator.client.clone()).create(&PostParams::default(), &ship).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            created => _ = created?,
        }
    }
    Ok(Action::requeue(AGAIN_AFTER))
}

/// The ships to make, as far as the cache knows.
fn missing(fleet: &str, size: usize, known: &BTreeSet<String>, naming: Naming) -> Vec<Secret> {
    let labels = Some(BTreeMap::from([(FLEET.to_owned(), fleet.to_owned())]));
    let ship = |name, generate_name| {
        let metadata = ObjectMeta { name, generate_name, labels: labels.clone(), ..ObjectMeta::default() };
        Secret { metadata, ..Secret::default() }
    };
    let names = (0..size).map(|number| format!("{fleet}-{number}"));
    match naming {
        Naming::Numbered => names.filter(|name| !known.contains(name)).map(|name| ship(Some(name), None)).collect(),
        Naming::Drawn => (known.len()..size).map(|_| ship(None, Some(format!("{fleet}-")))).collect(),
    }
}

fn on_error(_: Arc<ConfigMap>, error: &FleetError, _: Arc<Operator>) -> Action {
    tracing::debug!(%error, "a fleet is looked at again");
    Action::requeue(AGAIN_AFTER)
}
