//! The kinds' strategies at work in the generic create, read, update and delete, on a store in memory.

use std::sync::Arc;

use keelstone_env::Env;
use keelstone_machinery::meta;
use keelstone_machinery::status::{ApiResult, ApiStatus};
use keelstone_registry::{DeleteOptions, ListParams, NoHook, PatchRequest, Resource, ResourceStore, WriteRequest};
use keelstone_resources::{
    binding, eviction, Deployments, EndpointSlices, Leases, Namespaces, Pods, ServiceAccounts, Services,
};
use keelstone_storage::{testing::MemoryKv, EtcdStorage, StorageConfig, StoreAccess};
use serde_json::{json, Value};

const NAMESPACE: &str = "n";

/// A store of one kind, and short forms of its operations.
struct Kind(ResourceStore);

impl Kind {
    fn new(resource: &'static dyn Resource) -> Self {
        let env = Env::os();
        let config = StorageConfig::new(resource.info().group_resource())
            .with_decorate(move |object: &mut Value| resource.default(object));
        let storage = EtcdStorage::new(StoreAccess::new(env.clone(), MemoryKv::new()), config);
        Self(ResourceStore::new(env, resource, Arc::new(storage)))
    }

    fn namespace(&self) -> &'static str {
        if self.0.info().namespaced {
            NAMESPACE
        } else {
            ""
        }
    }

    fn request(subresource: &str) -> WriteRequest {
        WriteRequest { manager: "test".into(), subresource: subresource.into(), ..WriteRequest::default() }
    }

    async fn create(&self, mut object: Value) -> ApiResult<Value> {
        let info = self.0.info();
        object["apiVersion"] = info.gvk().api_version().into();
        object["kind"] = info.kind.into();
        let created = self.0.create(&Self::request(""), self.namespace(), object, &NoHook).await?;
        Ok(created.into_value())
    }

    async fn get(&self, name: &str) -> ApiResult<Value> {
        Ok(self.0.get(self.namespace(), name, "").await?.into_value())
    }

    async fn update(&self, subresource: &str, object: Value) -> ApiResult<Value> {
        let name = meta::name(&object).to_owned();
        let written = self.0.update(&Self::request(subresource), self.namespace(), &name, object, &NoHook).await?;
        Ok(written.object.into_value())
    }

    /// Reads, changes and writes back.
    async fn change(&self, subresource: &str, name: &str, change: impl FnOnce(&mut Value)) -> ApiResult<Value> {
        let mut object = self.get(name).await?;
        change(&mut object);
        self.update(subresource, object).await
    }

    async fn delete(&self, name: &str, grace_period_s: Option<i64>) -> ApiResult<bool> {
        let options = DeleteOptions { grace_period_s, ..DeleteOptions::default() };
        Ok(self.0.delete(&Self::request(""), self.namespace(), name, &options, &NoHook).await?.gone)
    }
}

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn deployment() -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}})
}

async fn bind(pods: &Kind, node: &str) -> ApiResult<Value> {
    let body = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    binding::validate(&body, "p")?;
    let make = |pod: &Value| {
        let mut pod = pod.clone();
        binding::apply(&body, &mut pod, 60)?;
        Ok(pod)
    };
    Ok(pods.0.modify(&Kind::request("binding"), NAMESPACE, "p", &make, &NoHook).await?.into_value())
}

fn code(result: ApiResult<impl std::fmt::Debug>) -> u16 {
    result.map_err(|status: ApiStatus| status.code).err().unwrap_or(200)
}

#[tokio::test]
async fn the_life_of_a_pod() {
    let pods = Kind::new(&Pods);
    let created = pods.create(pod()).await.unwrap();
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(meta::generation(&created), 1);

    let bound = bind(&pods, "w1").await.unwrap();
    assert_eq!((bound["spec"]["nodeName"].as_str(), meta::generation(&bound)), (Some("w1"), 1));
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(code(bind(&pods, "w2").await), 409);
    assert_eq!(code(pods.change("", "p", |p| p["spec"]["nodeName"] = "w2".into()).await), 422);

    let image = pods.change("", "p", |p| p["spec"]["containers"][0]["image"] = "i:2".into()).await.unwrap();
    assert_eq!(meta::generation(&image), 2);
    let running = pods.change("status", "p", |p| p["status"]["phase"] = "Running".into()).await.unwrap();
    assert_eq!(running["status"]["qosClass"], "BestEffort");
    let by_node = ListParams { field_selector: "spec.nodeName=w1".into(), ..ListParams::default() };
    assert_eq!(pods.0.list("", &by_node).await.unwrap().objects.len(), 1);

    assert!(eviction::must_mark(&running));
    let make = |pod: &Value| {
        let mut pod = pod.clone();
        eviction::mark(&mut pod, 60);
        Ok(pod)
    };
    let marked = pods.0.modify(&Kind::request("eviction"), NAMESPACE, "p", &make, &NoHook).await.unwrap();
    assert_eq!(marked.value()["status"]["conditions"][1]["type"], "DisruptionTarget");

    assert!(!pods.delete("p", None).await.unwrap());
    assert_eq!(meta::deletion_grace_period_s(&pods.get("p").await.unwrap()), Some(30));
    assert!(pods.delete("p", Some(0)).await.unwrap());
    assert_eq!(code(pods.get("p").await), 404);
}

#[tokio::test]
async fn a_pod_without_a_node_goes_at_once() {
    let pods = Kind::new(&Pods);
    pods.create(pod()).await.unwrap();
    assert!(pods.delete("p", None).await.unwrap());
}

#[tokio::test]
async fn a_namespace_waits_for_its_finalizers() {
    let namespaces = Kind::new(&Namespaces);
    let created = namespaces.create(json!({"metadata": {"name": "a"}})).await.unwrap();
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
    assert!(!namespaces.delete("a", None).await.unwrap());
    let going = namespaces.get("a").await.unwrap();
    assert_eq!(going["status"]["phase"], "Terminating");
    assert_eq!(code(namespaces.change("", "a", |n| n["spec"]["finalizers"] = json!([])).await), 200);
    assert_eq!(namespaces.get("a").await.unwrap()["spec"]["finalizers"], json!(["kubernetes"]));
    namespaces.change("finalize", "a", |n| n["spec"]["finalizers"] = json!([])).await.unwrap();
    assert_eq!(code(namespaces.get("a").await), 404);
}

#[tokio::test]
async fn a_deployment_counts_its_generations() {
    let deployments = Kind::new(&Deployments);
    let created = deployments.create(deployment()).await.unwrap();
    assert_eq!((meta::generation(&created), &created["spec"]["replicas"]), (1, &json!(1)));
    let status = deployments.change("status", "d", |d| {
        d["status"]["replicas"] = 1.into();
        d["spec"]["replicas"] = 5.into();
    });
    let status = status.await.unwrap();
    assert_eq!((meta::generation(&status), &status["spec"]["replicas"]), (1, &json!(1)));
    let make = |scale: Option<&Value>| {
        let mut scale = scale.cloned().unwrap_or_default();
        scale["spec"]["replicas"] = 3.into();
        Ok(scale)
    };
    let patch = PatchRequest { make: &make, apply: false };
    let scale = deployments.0.update_scale(&Kind::request(""), NAMESPACE, "d", &patch, &NoHook).await.unwrap();
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "a=b"}));
    assert_eq!(meta::generation(&deployments.get("d").await.unwrap()), 2);
    let other = |d: &mut Value| d["spec"]["selector"]["matchLabels"] = json!({"a": "c"});
    assert_eq!(code(deployments.change("", "d", other).await), 422);
}

#[tokio::test]
async fn what_updates_without_a_version_do() {
    let accounts = Kind::new(&ServiceAccounts);
    accounts.create(json!({"metadata": {"name": "a"}})).await.unwrap();
    let bare = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
    assert_eq!(code(accounts.update("", bare).await), 422);
    let leases = Kind::new(&Leases);
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}});
    assert_eq!(code(leases.update("", lease.clone()).await), 200);
    assert_eq!(code(leases.update("", lease).await), 422);
}

#[tokio::test]
async fn bad_objects_change_nothing() {
    let services = Kind::new(&Services);
    let refused = services.create(json!({"metadata": {"name": "1a"}, "spec": {}})).await.unwrap_err();
    let fields: Vec<&str> = refused.causes().iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!((refused.code, fields), (422, vec!["metadata.name", "spec.ports"]));
    assert_eq!(code(services.get("1a").await), 404);
    let slices = Kind::new(&EndpointSlices);
    assert_eq!(code(slices.create(json!({"metadata": {"name": "a"}})).await), 422);
}
