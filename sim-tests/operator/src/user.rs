//! Makes fleets, and looks at all times whether one has more ships than it should: what must always hold.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use keelstone_client::{Client, ClientError, ListOptions};
use keelstone_world::Host;
use tokio::time::{sleep, Instant};

use crate::{fleet::FLEET, master, world::LOOK_INTERVAL};

/// The operator has its objects here.
pub const NAMESPACE: &str = "default";
const SIZES: [usize; 3] = [1, 3, 5];
/// The user looks for so long. A plan may delay the operator, but by then fleets are complete.
const LOOKS_FOR: Duration = Duration::from_secs(30);

/// What was broken; `None` if everything held.
///
/// # Errors
/// A request of the user's own that was not answered as it should be.
pub async fn watch_over(host: &Host) -> turmoil::Result<Option<String>> {
    let client = Client::tcp(&host.env(), master::reached_by("user"))?.named("user");
    while client.resource::<Namespace>().get(NAMESPACE).await.is_err() {
        sleep(LOOK_INTERVAL).await;
    }
    for size in SIZES {
        client.namespaced::<ConfigMap>(NAMESPACE).create(&fleet_of(size)).await?;
    }
    let begun = Instant::now();
    loop {
        let counts = count(&client).await?;
        if let Some((size, count)) = SIZES.into_iter().zip(counts).find(|(size, count)| count > size) {
            return Ok(Some(format!("the fleet of {size} has {count} ships")));
        }
        if begun.elapsed() > LOOKS_FOR {
            return Ok((counts != SIZES).then(|| format!("fleets of {SIZES:?} have {counts:?} ships")));
        }
        sleep(LOOK_INTERVAL).await;
    }
}

fn fleet_of(size: usize) -> ConfigMap {
    let metadata = ObjectMeta {
        name: Some(format!("fleet-{size}")),
        labels: Some([(FLEET.to_owned(), String::new())].into()),
        ..ObjectMeta::default()
    };
    ConfigMap { metadata, data: Some([("size".to_owned(), size.to_string())].into()), ..ConfigMap::default() }
}

/// The ships of each fleet, in the order of [`SIZES`].
async fn count(client: &Client) -> Result<[usize; 3], ClientError> {
    let ships = client.namespaced::<Secret>(NAMESPACE).list_all(&ListOptions::default()).await?;
    let fleets: Vec<&str> =
        ships.items.iter().filter_map(|ship| Some(ship.metadata.labels.as_ref()?.get(FLEET)?.as_str())).collect();
    Ok(SIZES.map(|size| fleets.iter().filter(|fleet| **fleet == format!("fleet-{size}")).count()))
}
