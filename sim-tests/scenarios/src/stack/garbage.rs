//! A user of owners and dependents: makes them, and deletes owners. The garbage collector has to remove the
//! dependents of owners that are gone, and nothing else. (16)

use std::time::Duration;

use keelstone_client::{Client, ClientError, DeleteOptions, DynamicObject, Object};
use keelstone_env::Random;
use keelstone_world::SeededRandom;
use serde_json::{json, Value};

use super::{
    web::{api, count},
    Effort,
};

/// `namespace/name` of all dependents begins with this.
pub const DEPENDENTS: &str = "default/d-";
const OWNERS: u64 = 3;
const DEPENDENTS_EACH: u64 = 2;
const THINK_MS_MAX: u64 = 1_500;

fn config_map(name: &str, owner: Option<(&str, &str)>) -> DynamicObject {
    let references: Vec<Value> = owner
        .iter()
        .map(|(name, uid)| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}))
        .collect();
    let metadata = json!({"name": name, "namespace": "default", "ownerReferences": references});
    DynamicObject(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
}

pub async fn run(client: Client, random: SeededRandom, effort: Effort) {
    while effort.goes_on() {
        tokio::time::sleep(Duration::from_millis(random.below(THINK_MS_MAX))).await;
        let name = format!("o-{}", random.below(OWNERS));
        if random.chance(60) {
            count(&effort, "own", own(&client, &name).await);
        } else {
            let deleted = api(&client, "", "configmaps").delete(&name, &DeleteOptions::default()).await;
            count(&effort, "delete owner", deleted.map(drop));
        }
    }
}

/// Makes the owner if it is not there, and its dependents.
async fn own(client: &Client, name: &str) -> Result<(), ClientError> {
    let api = api(client, "", "configmaps");
    let owner = match api.create(&config_map(name, None)).await {
        Err(error) if error.is_already_exists() => api.get(name).await?,
        owner => owner?,
    };
    for i in 0..DEPENDENTS_EACH {
        let dependent = config_map(&format!("d-{name}-{i}"), Some((name, owner.uid())));
        match api.create(&dependent).await {
            Err(error) if error.is_already_exists() => {}
            dependent => drop(dependent?),
        }
    }
    Ok(())
}
