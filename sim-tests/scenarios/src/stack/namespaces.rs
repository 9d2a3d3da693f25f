//! A user who makes namespaces, fills them, and deletes them: each must be emptied and go.

use std::time::Duration;

use keelstone_client::{Client, ClientError, DeleteOptions, DynamicObject};
use keelstone_env::Random;
use keelstone_machinery::gvk::GroupVersionResource;
use keelstone_world::SeededRandom;
use serde_json::json;

use super::web::count;
use crate::effort::Effort;

/// Every namespace of this user begins with this.
pub const PREFIX: &str = "n-";
const NAMES: u64 = 2;
const OBJECTS: u64 = 3;
const THINK_MS_MAX: u64 = 2_500;

pub async fn run(client: Client, random: SeededRandom, effort: Effort) {
    while effort.goes_on() {
        tokio::time::sleep(Duration::from_millis(random.below(THINK_MS_MAX))).await;
        let name = format!("{PREFIX}{}", random.below(NAMES));
        if random.chance(60) {
            count(&effort, "fill namespace", fill(&client, &name).await);
        } else {
            let namespaces = client.dynamic(&GroupVersionResource::new("", "v1", "namespaces"));
            let deleted = namespaces.delete(&name, &DeleteOptions::default()).await;
            count(&effort, "delete namespace", deleted.map(drop));
        }
    }
}

async fn fill(client: &Client, name: &str) -> Result<(), ClientError> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let namespaces = client.dynamic(&GroupVersionResource::new("", "v1", "namespaces"));
    match namespaces.create(&DynamicObject(namespace)).await {
        Err(error) if error.is_already_exists() => {}
        created => drop(created?),
    }
    let configs = client.dynamic(&GroupVersionResource::new("", "v1", "configmaps")).within(name);
    for i in 0..OBJECTS {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("x-{i}"), "namespace": name},
        });
        match configs.create(&DynamicObject(object)).await {
            Err(error) if error.is_already_exists() => {}
            created => drop(created?),
        }
    }
    Ok(())
}
