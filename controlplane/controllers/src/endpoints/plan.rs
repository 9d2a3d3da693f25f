use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use keelstone_client::Object;

use crate::{
    common::{
        endpoints::{self, Port},
        pods,
    },
    constants::ENDPOINTS_ADDRESSES_MAX,
};

const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The Endpoints that a Service is to have.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Nothing,
    Create(Endpoints),
    Update(Endpoints),
}

pub fn plan(service: &Service, selected: &[Arc<Pod>], existing: Option<&Endpoints>) -> Plan {
    let (subsets, truncated) = truncate(subsets(service, selected));
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let mut labels = endpoints::labels_of(service);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    let Some(existing) = existing else {
        let metadata = ObjectMeta {
            name: Some(service.name().to_owned()),
            namespace: Some(service.namespace().to_owned()),
            labels: Some(labels),
            annotations: truncated.then(|| BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())])),
            ..ObjectMeta::default()
        };
        return Plan::Create(Endpoints { metadata, subsets });
    };
    let mut next = existing.clone();
    next.subsets = subsets;
    next.metadata.labels = Some(labels);
    let annotations = next.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    next.metadata.annotations = next.metadata.annotations.filter(|annotations| !annotations.is_empty());
    let same = next.metadata == existing.metadata
        && next.subsets.as_deref().unwrap_or_default() == existing.subsets.as_deref().unwrap_or_default();
    if same {
        Plan::Nothing
    } else {
        Plan::Update(next)
    }
}

/// Pods with the same ports share a subset; in it, addresses are in order.
fn subsets(service: &Service, selected: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publish = endpoints::publishes_not_ready(service);
    let has_ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).is_some_and(|ports| !ports.is_empty());
    let ipv6 = service.spec.as_ref().and_then(|s| s.ip_families.as_ref()).and_then(|f| f.first()).map(String::as_str)
        == Some("IPv6");
    let mut by_ports: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for pod in selected.iter().filter(|pod| endpoints::serves(pod) && (publish || !pod.is_terminating())) {
        let Some(ip) = endpoints::addresses(pod, ipv6).into_iter().next() else { continue };
        let ports = endpoints::ports(service, pod);
        // A pod that has none of the ports serves nothing, unless the Service is about addresses alone.
        if ports.is_empty() && has_ports {
            continue;
        }
        let node = pods::node_name(pod);
        let address = EndpointAddress {
            ip,
            hostname: endpoints::hostname(pod, service),
            node_name: (!node.is_empty()).then(|| node.to_owned()),
            target_ref: Some(endpoints::reference(pod)),
        };
        let (ready, not_ready) = by_ports.entry(ports).or_default();
        if publish || pods::is_ready(pod) {
            ready.push(address);
        } else {
            not_ready.push(address);
        }
    }
    by_ports.into_iter().map(|(ports, (ready, not_ready))| subset(&ports, ready, not_ready)).collect()
}

fn subset(ports: &[Port], ready: Vec<EndpointAddress>, not_ready: Vec<EndpointAddress>) -> EndpointSubset {
    let sorted = |mut addresses: Vec<EndpointAddress>| {
        let uid = |a: &EndpointAddress| a.target_ref.as_ref().and_then(|reference| reference.uid.clone());
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip).then_with(|| uid(a).cmp(&uid(b))));
        (!addresses.is_empty()).then_some(addresses)
    };
    let port = |port: &Port| EndpointPort {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        port: port.port,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    };
    EndpointSubset {
        addresses: sorted(ready),
        not_ready_addresses: sorted(not_ready),
        ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
    }
}

/// Keeps the first [`ENDPOINTS_ADDRESSES_MAX`] addresses, ready ones before others; true if some were left out.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let mut room = ENDPOINTS_ADDRESSES_MAX;
    let mut truncated = false;
    let mut cut = |list: &mut Option<Vec<EndpointAddress>>| {
        let Some(addresses) = list else { return };
        truncated |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
        if addresses.is_empty() {
            *list = None;
        }
    };
    subsets.iter_mut().for_each(|subset| cut(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| cut(&mut subset.not_ready_addresses));
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    (subsets, truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "s"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .unwrap()
    }

    fn pod(number: usize, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": format!("u{number}")},
                "spec": {"nodeName": "w1", "containers": []},
                "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", number / 250, number % 250),
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn created(plan: Plan) -> Endpoints {
        match plan {
            Plan::Create(endpoints) | Plan::Update(endpoints) => endpoints,
            Plan::Nothing => panic!("nothing is planned"),
        }
    }

    #[test]
    fn ready_and_not_ready_addresses_share_a_subset() {
        let endpoints = created(plan(&service(), &[pod(2, true), pod(1, true), pod(3, false)], None));
        let [subset] = &endpoints.subsets.as_ref().unwrap()[..] else { panic!("{endpoints:?}") };
        let ips = |list: &Option<Vec<EndpointAddress>>| {
            list.iter().flatten().map(|address| address.ip.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ips(&subset.addresses), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(&subset.not_ready_addresses), ["10.0.0.3"]);
        assert_eq!(subset.ports.as_ref().unwrap()[0].port, 8080);
        assert_eq!(plan(&service(), &[pod(1, true), pod(2, true), pod(3, false)], Some(&endpoints)), Plan::Nothing);
    }

    #[test]
    fn over_capacity_is_said_and_unsaid() {
        let pods: Vec<_> = (0..=ENDPOINTS_ADDRESSES_MAX).map(|i| pod(i, i != 7)).collect();
        let full = created(plan(&service(), &pods, None));
        assert_eq!(full.annotation(OVER_CAPACITY), Some("truncated"));
        let subset = &full.subsets.as_ref().unwrap()[0];
        assert_eq!(subset.addresses.as_ref().unwrap().len(), ENDPOINTS_ADDRESSES_MAX);
        assert_eq!(subset.not_ready_addresses, None);
        let fits = created(plan(&service(), &pods[..ENDPOINTS_ADDRESSES_MAX], Some(&full)));
        assert_eq!(fits.annotation(OVER_CAPACITY), None);
    }

    proptest! {
        #[test]
        fn applying_the_plan_settles(before in 0..40usize, after in 0..40usize, ready in 1..5usize) {
            let pods = |count: usize| (0..count).map(|i| pod(i, i % ready == 0)).collect::<Vec<_>>();
            let first = created(plan(&service(), &pods(before), None));
            let second = match plan(&service(), &pods(after), Some(&first)) {
                Plan::Nothing => first,
                other => created(other),
            };
            prop_assert_eq!(plan(&service(), &pods(after), Some(&second)), Plan::Nothing);
        }
    }
}
