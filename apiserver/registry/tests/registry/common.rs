//! Kinds to try the registry with, and a registry over a store in memory.

use std::{sync::Arc, time::Duration};

use keelstone_env::Env;
use keelstone_machinery::{
    field::{Causes, Path},
    ResourceInfo, SubresourceInfo,
};
use keelstone_registry::{Column, NoHook, Registry, Resource, ResourceStore, WriteContext, WriteRequest};
use keelstone_storage::{testing::MemoryKv, Cacher, StoredObject};
use serde_json::{json, Value};

static WIDGETS: ResourceInfo = ResourceInfo {
    group: "test.io",
    version: "v1",
    kind: "Widget",
    plural: "widgets",
    singular: "widget",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: &[],
    subresources: &[SubresourceInfo { name: "status", group: "test.io", version: "v1", kind: "Widget", verbs: &[] }],
};

static NODES: ResourceInfo =
    ResourceInfo { kind: "Node", plural: "nodes", singular: "node", namespaced: false, subresources: &[], ..WIDGETS };

/// Has a spec and a status, a generation, defaults, validation and a grace period from its spec.
pub struct Widget;

impl Resource for Widget {
    fn info(&self) -> &'static ResourceInfo {
        &WIDGETS
    }

    fn default(&self, object: &mut Value) {
        if object["spec"].is_object() && object["spec"]["size"].is_null() {
            object["spec"]["size"] = 1.into();
        }
    }

    fn prepare_for_create(&self, _: &WriteContext, object: &mut Value) {
        object["status"] = json!({"phase": "New"});
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        if object["spec"]["size"].as_i64().unwrap_or(0) < 0 {
            let at = Path::from("spec.size");
            causes.invalid(&at, object["spec"]["size"].clone(), "must be greater than or equal to 0");
        }
    }

    fn prepare_for_update(&self, context: &WriteContext, new: &mut Value, old: &Value) {
        let field = if context.subresource == "status" { "spec" } else { "status" };
        new[field] = old[field].clone();
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn grace_period_s(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        requested.or_else(|| object["spec"]["grace"].as_i64())
    }

    fn fields(&self) -> &'static [&'static str] {
        &["spec.size"]
    }

    fn field(&self, object: &Value, path: &str) -> Option<String> {
        (path == "spec.size").then(|| object["spec"]["size"].to_string())
    }

    fn columns(&self) -> &'static [Column] {
        &[]
    }

    fn row(&self, _: &Value, _: i64) -> Vec<Value> {
        Vec::new()
    }
}

/// A kind of the cluster that must be updated with a resourceVersion.
pub struct Node;

impl Resource for Node {
    fn info(&self) -> &'static ResourceInfo {
        &NODES
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        &[]
    }

    fn row(&self, _: &Value, _: i64) -> Vec<Value> {
        Vec::new()
    }
}

pub struct World {
    pub kv: Arc<MemoryKv>,
    pub registry: Arc<Registry>,
    pub widgets: Arc<ResourceStore>,
    pub nodes: Arc<ResourceStore>,
}

pub async fn world() -> World {
    let kv = MemoryKv::new();
    let cacher = Cacher::start(Env::os(), kv.clone());
    let registry = Registry::new(Env::os(), cacher, vec![&Widget, &Node]);
    assert!(registry.ready(Duration::from_secs(5)).await);
    let get = |plural| registry.get("test.io", "v1", plural).unwrap();
    World { kv, widgets: get("widgets"), nodes: get("nodes"), registry }
}

pub fn request() -> WriteRequest {
    WriteRequest { user: "tester".into(), manager: "tests".into(), ..WriteRequest::default() }
}

pub fn widget(name: &str) -> Value {
    json!({"apiVersion": "test.io/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {}})
}

pub async fn create(store: &ResourceStore, object: Value) -> StoredObject {
    store.create(&request(), "d", object, &NoHook).await.unwrap()
}
