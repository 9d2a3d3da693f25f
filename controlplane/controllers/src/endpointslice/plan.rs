use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use keelstone_client::{Object, Store};

use crate::{
    common::{
        endpoints::{self, Port},
        ownership, pods,
    },
    constants::SLICE_ENDPOINTS_MAX,
};

pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What is to be written for one Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// The slices with one family of addresses and one set of ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    address_type: &'static str,
    ports: Vec<Port>,
}

/// The endpoints of a Service, by group and then by the pod's uid.
type Wanted = BTreeMap<Group, BTreeMap<String, Endpoint>>;

/// Where nodes are.
pub fn zone_of(nodes: &Store<Node>, node: &str) -> Option<String> {
    nodes.get(node)?.label(ZONE_LABEL).map(str::to_owned)
}

/// Brings the slices of a Service to its pods with few writes: endpoints stay in the slice they are in, changed
/// slices are filled up before others, and no slice has more than [`SLICE_ENDPOINTS_MAX`].
pub fn plan(
    service: &Service,
    selected: &[Arc<Pod>],
    existing: &[Arc<EndpointSlice>],
    zone: impl Fn(&str) -> Option<String>,
) -> Plan {
    let mut wanted = wanted(service, selected, zone);
    let mut plan = Plan::default();
    let mut by_group: BTreeMap<Group, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing.iter().filter(|slice| !slice.is_terminating()) {
        match group_of(slice) {
            Some(group) if wanted.contains_key(&group) => by_group.entry(group).or_default().push(slice),
            _ => plan.delete.push(slice.clone()),
        }
    }
    while let Some((group, endpoints)) = wanted.pop_first() {
        let slices = by_group.remove(&group).unwrap_or_default();
        plan_group(service, &group, endpoints, &slices, &mut plan);
    }
    plan
}

/// One endpoint for each pod that has an address. A family without any still has its (empty) group, so that
/// there is always a slice that says so.
fn wanted(service: &Service, selected: &[Arc<Pod>], zone: impl Fn(&str) -> Option<String>) -> Wanted {
    let mut wanted = Wanted::new();
    for address_type in address_types(service) {
        let mut found = false;
        for pod in selected.iter().filter(|pod| endpoints::serves(pod)) {
            let addresses = endpoints::addresses(pod, address_type == "IPv6");
            let Some(first) = addresses.into_iter().next() else { continue };
            let group = Group { address_type, ports: endpoints::ports(service, pod) };
            let endpoint = endpoint(service, pod, first, &zone);
            wanted.entry(group).or_default().insert(pod.uid().to_owned(), endpoint);
            found = true;
        }
        if !found {
            wanted.insert(Group { address_type, ports: Vec::new() }, BTreeMap::new());
        }
    }
    wanted
}

fn address_types(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let mut types: Vec<_> =
        families.into_iter().flatten().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if types.is_empty() {
        types.push("IPv4");
    }
    types.dedup();
    types
}

fn endpoint(service: &Service, pod: &Pod, address: String, zone: &impl Fn(&str) -> Option<String>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.is_terminating();
    let node = pods::node_name(pod);
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(endpoints::publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: endpoints::hostname(pod, service),
        node_name: (!node.is_empty()).then(|| node.to_owned()),
        target_ref: Some(endpoints::reference(pod)),
        zone: zone(node),
        ..Endpoint::default()
    }
}

fn group_of(slice: &EndpointSlice) -> Option<Group> {
    let address_type = match slice.address_type.as_str() {
        "IPv4" => "IPv4",
        "IPv6" => "IPv6",
        _ => return None,
    };
    let mut ports = Vec::new();
    for port in slice.ports.iter().flatten() {
        ports.push(Port {
            name: port.name.clone().unwrap_or_default(),
            port: port.port?,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            app_protocol: port.app_protocol.clone(),
        });
    }
    ports.sort();
    Some(Group { address_type, ports })
}

/// A slice as it is to be.
struct Draft {
    slice: EndpointSlice,
    changed: bool,
}

fn plan_group(
    service: &Service,
    group: &Group,
    mut endpoints: BTreeMap<String, Endpoint>,
    slices: &[&Arc<EndpointSlice>],
    plan: &mut Plan,
) {
    let mut drafts: Vec<(&Arc<EndpointSlice>, Draft)> =
        slices.iter().map(|slice| (*slice, keep(service, slice, &mut endpoints))).collect();
    let mut left: VecDeque<Endpoint> = endpoints.into_values().collect();
    // Those that are written anyway first.
    drafts.sort_by_key(|(slice, draft)| (!draft.changed, slice.name().to_owned()));
    for (_, draft) in &mut drafts {
        let list = draft.slice.endpoints.get_or_insert_default();
        while list.len() < SLICE_ENDPOINTS_MAX {
            let Some(endpoint) = left.pop_front() else { break };
            list.push(endpoint);
            draft.changed = true;
        }
    }
    let filled = drafts.iter().any(|(_, d)| d.slice.endpoints.as_ref().is_some_and(|e| !e.is_empty()));
    let mut placeholder = !filled && left.is_empty();
    for (slice, draft) in drafts {
        let empty = draft.slice.endpoints.as_ref().is_none_or(Vec::is_empty);
        if empty && !std::mem::take(&mut placeholder) {
            plan.delete.push(slice.clone());
        } else if draft.changed {
            plan.update.push(draft.slice);
        }
    }
    while placeholder || !left.is_empty() {
        placeholder = false;
        let mut slice = new_slice(service, group);
        slice.endpoints = Some(left.drain(..left.len().min(SLICE_ENDPOINTS_MAX)).collect());
        plan.create.push(slice);
    }
}

/// Takes those endpoints out of `wanted` that the slice has, and gives the slice their newest form.
fn keep(service: &Service, slice: &EndpointSlice, wanted: &mut BTreeMap<String, Endpoint>) -> Draft {
    let mut kept = Vec::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let uid = endpoint.target_ref.as_ref().and_then(|reference| reference.uid.as_deref()).unwrap_or_default();
        if kept.len() < SLICE_ENDPOINTS_MAX {
            kept.extend(wanted.remove(uid));
        }
    }
    let mut next = slice.clone();
    let mut changed = slice.endpoints.as_deref().unwrap_or_default() != kept;
    next.endpoints = Some(kept);
    let labels = labels(service);
    if slice.metadata.labels.as_ref() != Some(&labels) {
        next.metadata.labels = Some(labels);
        changed = true;
    }
    if slice.controller_uid() != Some(service.uid()) {
        next.metadata.owner_references = Some(vec![ownership::controller_reference(service)]);
        changed = true;
    }
    Draft { slice: next, changed }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = endpoints::labels_of(service);
    labels.insert(SERVICE_LABEL.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    labels
}

fn new_slice(service: &Service, group: &Group) -> EndpointSlice {
    let port = |port: &Port| EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    };
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: Some(service.namespace().to_owned()),
            labels: Some(labels(service)),
            owner_references: Some(vec![ownership::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: group.address_type.to_owned(),
        endpoints: None,
        ports: Some(group.ports.iter().map(port).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{json, Value};

    fn service(change: impl FnOnce(&mut Value)) -> Service {
        let mut value = json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "s", "labels": {"team": "a"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn pod(number: usize, ready: bool, port: i32) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": format!("u{number:04}")},
                "spec": {"nodeName": "w1", "containers": [
                    {"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", number / 250, number % 250),
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn nowhere(_: &str) -> Option<String> {
        None
    }

    /// What the API holds after a plan.
    fn apply(existing: &[Arc<EndpointSlice>], plan: Plan) -> Vec<Arc<EndpointSlice>> {
        let replaced = |name: &str| plan.update.iter().find(|s| s.name() == name).cloned().map(Arc::new);
        let gone = |name: &str| plan.delete.iter().any(|s| s.name() == name);
        let mut after: Vec<_> = existing.iter().filter(|s| !gone(s.name())).cloned().collect();
        after.iter_mut().for_each(|s| *s = replaced(s.name()).unwrap_or_else(|| s.clone()));
        for (i, mut slice) in plan.create.clone().into_iter().enumerate() {
            slice.metadata.name = Some(format!("web-{}-{i}", after.len()));
            after.push(Arc::new(slice));
        }
        after
    }

    fn uids(slices: &[Arc<EndpointSlice>]) -> Vec<String> {
        let refs = slices.iter().flat_map(|s| s.endpoints.iter().flatten()).map(|e| e.target_ref.clone().unwrap());
        let mut uids: Vec<_> = refs.map(|r| r.uid.unwrap()).collect();
        uids.sort();
        uids
    }

    #[test]
    fn conditions_ports_and_labels_are_those_of_kubernetes() {
        let mut leaving = (*pod(3, true, 8080)).clone();
        leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let pods = [pod(1, true, 8080), pod(2, false, 8080), Arc::new(leaving)];
        let plan = plan(&service(|_| {}), &pods, &[], |_| Some("z1".into()));
        let [slice] = &plan.create[..] else { panic!("{plan:?}") };
        let conditions = |e: &Endpoint| {
            let c = e.conditions.clone().unwrap();
            (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
        };
        let endpoints = slice.endpoints.as_ref().unwrap();
        let all: Vec<_> = endpoints.iter().map(conditions).collect();
        assert_eq!(all, [(true, true, false), (false, false, false), (false, true, true)]);
        assert_eq!(endpoints[0].zone.as_deref(), Some("z1"));
        let port = &slice.ports.as_ref().unwrap()[0];
        assert_eq!(
            (port.name.as_deref(), port.port, port.protocol.as_deref()),
            (Some("http"), Some(8080), Some("TCP"))
        );
        let labels = slice.metadata.labels.as_ref().unwrap();
        assert_eq!(labels[SERVICE_LABEL], "web");
        assert_eq!(labels[MANAGED_BY_LABEL], MANAGER);
        assert_eq!(labels["team"], "a");
    }

    #[test]
    fn not_ready_addresses_are_published_when_asked_for_and_headless_is_labelled() {
        let service = service(|s| {
            s["spec"]["publishNotReadyAddresses"] = json!(true);
            s["spec"]["clusterIP"] = json!("None");
        });
        let plan = plan(&service, &[pod(1, false, 8080)], &[], nowhere);
        let endpoint = &plan.create[0].endpoints.as_ref().unwrap()[0];
        assert_eq!(endpoint.conditions.as_ref().unwrap().ready, Some(true));
        assert_eq!(plan.create[0].metadata.labels.as_ref().unwrap()[endpoints::HEADLESS_LABEL], "");
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice_and_named_ports_split_slices() {
        let service = service(|_| {});
        let empty = apply(&[], plan(&service, &[], &[], nowhere));
        assert_eq!((empty.len(), uids(&empty).len()), (1, 0));
        assert!(plan(&service, &[], &empty, nowhere).is_empty());
        let pods = [pod(1, true, 8080), pod(2, true, 9090)];
        let two = apply(&empty, plan(&service, &pods, &empty, nowhere));
        assert_eq!(two.len(), 2);
        assert_eq!(uids(&two), ["u0001", "u0002"]);
    }

    #[test]
    fn a_slice_is_full_at_its_limit() {
        let pods: Vec<_> = (0..=SLICE_ENDPOINTS_MAX).map(|i| pod(i, true, 80)).collect();
        let sizes = |pods: &[Arc<Pod>]| {
            let plan = plan(&service(|_| {}), pods, &[], nowhere);
            plan.create.iter().map(|s| s.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&pods[..SLICE_ENDPOINTS_MAX]), [SLICE_ENDPOINTS_MAX]);
        assert_eq!(sizes(&pods), [SLICE_ENDPOINTS_MAX, 1]);
    }

    proptest! {
        #[test]
        fn applying_the_plan_settles(before in proptest::collection::btree_set(0..400usize, 0..250),
            after in proptest::collection::btree_set(0..400usize, 0..250), odd in any::<bool>()) {
            let service = service(|_| {});
            let pods = |set: &std::collections::BTreeSet<usize>, odd: bool| -> Vec<_> {
                set.iter().map(|i| pod(*i, i % 2 == 0, if odd && i % 5 == 0 { 81 } else { 80 })).collect()
            };
            let first = apply(&[], plan(&service, &pods(&before, false), &[], nowhere));
            let wanted = pods(&after, odd);
            let slices = apply(&first, plan(&service, &wanted, &first, nowhere));
            prop_assert_eq!(uids(&slices), wanted.iter().map(|p| p.uid().to_owned()).collect::<Vec<_>>());
            prop_assert!(slices.iter().all(|s| s.endpoints.as_ref().unwrap().len() <= SLICE_ENDPOINTS_MAX));
            prop_assert!(plan(&service, &wanted, &slices, nowhere).is_empty());
        }
    }
}
