//! A user of owners and dependents: makes them, and deletes owners. The garbage collector has to remove the
//! dependents of owners that are gone, and nothing else. (16)

use std::time::Duration;

use keelstone_client::{Client, ClientError, ClientResult, DeleteOptions, DynamicObject, ListOptions, Object};
use keelstone_env::Random;
use keelstone_world::SeededRandom;
use serde_json::{json, Value};

use super::web::{api, count};
use crate::effort::Effort;

/// `namespace/name` of all dependents begins with this.
pub const DEPENDENTS: &str = "default/d-";
const OWNERS: u64 = 4;
const DEPENDENTS_EACH: u64 = 2;
const THINK_MS_MAX: u64 = 900;

#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    group: &'static str,
    resource: &'static str,
}

impl Kind {
    fn api_version(self) -> String {
        if self.group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", self.group)
        }
    }
}

const CONFIG_MAP: Kind = Kind { name: "ConfigMap", group: "", resource: "configmaps" };
/// Owners are of the kind of their dependents, and of others, which come by lists and watches of their own.
const OWNER_KINDS: [Kind; 4] = [
    CONFIG_MAP,
    Kind { name: "Secret", group: "", resource: "secrets" },
    Kind { name: "ServiceAccount", group: "", resource: "serviceaccounts" },
    Kind { name: "Role", group: "rbac.authorization.k8s.io", resource: "roles" },
];

fn object(kind: Kind, name: &str) -> Value {
    json!({"apiVersion": kind.api_version(), "kind": kind.name, "metadata": {"name": name, "namespace": "default"}})
}

fn dependent(name: &str, kind: Kind, owner: &DynamicObject) -> DynamicObject {
    let mut object = object(CONFIG_MAP, name);
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": kind.api_version(), "kind": kind.name, "name": owner.name(), "uid": owner.uid()}]);
    DynamicObject(object)
}

pub async fn run(client: Client, random: SeededRandom, effort: Effort) {
    while effort.goes_on() {
        tokio::time::sleep(Duration::from_millis(random.below(THINK_MS_MAX))).await;
        let number = random.below(OWNERS);
        let (kind, name) = (OWNER_KINDS[number as usize % OWNER_KINDS.len()], format!("o-{number}"));
        if random.chance(60) {
            count(&effort, "own", own(&client, kind, &name).await);
        } else {
            let deleted = api(&client, kind.group, kind.resource).delete(&name, &DeleteOptions::default()).await;
            count(&effort, "delete owner", deleted.map(drop));
        }
    }
}

/// All objects that may own.
pub async fn owners(client: &Client) -> ClientResult<Vec<DynamicObject>> {
    let mut all = Vec::new();
    for kind in OWNER_KINDS {
        all.extend(api(client, kind.group, kind.resource).list_all(&ListOptions::default()).await?.items);
    }
    Ok(all)
}

/// Makes the owner if it is not there, and its dependents.
async fn own(client: &Client, kind: Kind, name: &str) -> Result<(), ClientError> {
    let owners = api(client, kind.group, kind.resource);
    let owner = match owners.create(&DynamicObject(object(kind, name))).await {
        Err(error) if error.is_already_exists() => owners.get(name).await?,
        owner => owner?,
    };
    let maps = api(client, "", CONFIG_MAP.resource);
    for i in 0..DEPENDENTS_EACH {
        match maps.create(&dependent(&format!("d-{name}-{i}"), kind, &owner)).await {
            Err(error) if error.is_already_exists() => {}
            created => drop(created?),
        }
    }
    Ok(())
}
