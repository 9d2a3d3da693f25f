use std::collections::BTreeSet;

use crate::resource_info::SubresourceInfo;

use super::*;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn info(group: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> ResourceInfo {
    ResourceInfo {
        group,
        version: "v1",
        kind,
        plural,
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced,
        verbs: VERBS,
        subresources: &[SubresourceInfo {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            verbs: &["get", "patch", "update"],
        }],
    }
}

fn all() -> Vec<ResourceInfo> {
    vec![
        info("apps", "Deployment", "deployments", true),
        info("", "Namespace", "namespaces", false),
        info("", "Pod", "pods", true),
    ]
}

fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(name)) = map.get("$ref") {
                out.insert(name.rsplit('/').next().unwrap_or_default().to_owned());
            }
            map.values().for_each(|value| references(value, out));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

#[test]
fn every_reference_has_a_definition() {
    let all = all();
    let resources: Vec<&ResourceInfo> = all.iter().collect();
    let documents = [
        (v2_json(&resources), "/definitions"),
        (v3_document(&resources, "apps", "v1").unwrap(), "/components/schemas"),
        (v3_document(&resources, "", "v1").unwrap(), "/components/schemas"),
    ];
    for (document, place) in documents {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let defined = document.pointer(place).unwrap().as_object().unwrap();
        for name in &found {
            assert!(defined.contains_key(name), "{name}");
        }
        assert!(found.len() > 50, "{}", found.len());
    }
    assert_eq!(v3_document(&resources, "batch", "v1"), None);
}

#[test]
fn patches_list_what_clients_look_for() {
    let all = all();
    let resources: Vec<&ResourceInfo> = all.iter().collect();
    let document = v3_document(&resources, "apps", "v1").unwrap();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<&str> = patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["pretty", "dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["patch"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    assert!(document["paths"]["/apis/apps/v1/deployments"]["get"].is_object());
    assert!(document["paths"]["/apis/apps/v1/deployments"].get("post").is_none());
}

#[test]
fn schemas_say_what_the_facts_say() {
    let all = all();
    let resources: Vec<&ResourceInfo> = all.iter().collect();
    let document = v3_document(&resources, "apps", "v1").unwrap();
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    assert!(deployment["description"].as_str().unwrap().starts_with("Deployment "), "{}", deployment["description"]);
    assert!(deployment["properties"]["spec"]["description"].as_str().is_some_and(|d| !d.is_empty()));
    assert_eq!(
        deployment["properties"]["spec"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"
    );
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-type"], "map");
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(schemas["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]["x-kubernetes-map-type"], "atomic");
    let mut undocumented = Vec::new();
    for (name, schema) in schemas.as_object().unwrap() {
        if schema["description"].as_str().is_none_or(str::is_empty) {
            undocumented.push(name);
        }
    }
    assert!(undocumented.is_empty(), "{undocumented:?}");
}

#[test]
fn the_protobuf_form_carries_the_same() {
    let all = all();
    let resources: Vec<&ResourceInfo> = all.iter().collect();
    let bytes = v2_protobuf(&resources);
    let document = gnostic::Document::decode(bytes.as_slice()).unwrap();
    let definitions = document.definitions.unwrap().additional_properties;
    let json = v2_json(&resources);
    assert_eq!(definitions.len(), json["definitions"].as_object().unwrap().len());
    let pod = definitions.iter().find(|d| d.name == "io.k8s.api.core.v1.Pod").unwrap().value.as_ref().unwrap();
    let extension = pod.vendor_extension.iter().find(|e| e.name == "x-kubernetes-group-version-kind").unwrap();
    assert_eq!(extension.value.as_ref().unwrap().yaml, "[{\"group\":\"\",\"kind\":\"Pod\",\"version\":\"v1\"}]\n");
    let path = document.paths.unwrap().path;
    let item =
        path.iter().find(|p| p.name == "/api/v1/namespaces/{namespace}/pods/{name}").unwrap().value.as_ref().unwrap();
    let parameters = &item.patch.as_ref().unwrap().parameters;
    let names: Vec<&str> = parameters
        .iter()
        .filter_map(|p| Some(p.parameter.as_ref()?.non_body_parameter.as_ref()?.query.as_ref()?.name.as_str()))
        .collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"));
}

#[test]
fn the_index_changes_with_the_documents() {
    let all = all();
    let resources: Vec<&ResourceInfo> = all.iter().collect();
    let index = v3_index(&resources);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let hash = url.strip_prefix("/openapi/v3/apis/apps/v1?hash=").unwrap();
    assert_eq!(hash.len(), 64);
    assert_eq!(v3_index(&resources), index, "the same resources give the same index");
    let fewer: Vec<&ResourceInfo> = resources[..2].to_vec();
    assert_eq!(v3_index(&fewer)["paths"]["apis/apps/v1"], index["paths"]["apis/apps/v1"]);
    assert_ne!(v3_index(&fewer)["paths"]["api/v1"], index["paths"]["api/v1"]);
}
