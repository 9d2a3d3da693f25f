use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use keelstone_machinery::quantity::Quantity;

use crate::constants::{DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES};

type Quantities = BTreeMap<String, ApiQuantity>;

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub storage_bytes: i64,
    /// Any other resource, in its own unit. No zeros.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads what an API object says; `pods` is not a resource here, and what cannot be read counts as zero
    /// (the API server has validated it).
    pub fn read(quantities: Option<&Quantities>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            let Ok(quantity) = Quantity::parse(&quantity.0) else { continue };
            match name.as_str() {
                "cpu" => resources.cpu_milli = quantity.milli(),
                "memory" => resources.memory_bytes = quantity.units(),
                "ephemeral-storage" => resources.storage_bytes = quantity.units(),
                "pods" => {}
                _ if quantity.is_zero() => {}
                _ => drop(resources.others.insert(name.clone(), quantity.units())),
            }
        }
        resources
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// The larger amount of each resource.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.cpu_milli = with(self.cpu_milli, other.cpu_milli);
        self.memory_bytes = with(self.memory_bytes, other.memory_bytes);
        self.storage_bytes = with(self.storage_bytes, other.storage_bytes);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = with(*mine, *amount);
        }
        self.others.retain(|_, amount| *amount != 0);
    }
}

/// What a pod asks for (the rule of component-helpers' PodRequests): the larger of what runs together (the
/// containers and the sidecars) and of what each init container needs beside the sidecars started before it,
/// or what the pod as a whole asks for, plus its overhead.
pub fn pod_requests(spec: &PodSpec) -> Resources {
    requests_of(spec, &|container| Resources::read(container.resources.as_ref().and_then(|r| r.requests.as_ref())))
}

/// Like [`pod_requests`], but a container without a request for CPU or memory counts with a default.
pub fn pod_requests_for_score(spec: &PodSpec) -> Resources {
    requests_of(spec, &|container| {
        let mut requests = Resources::read(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
        let asks = |name: &str| {
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            requests.is_some_and(|r| r.contains_key(name))
        };
        if !asks("cpu") {
            requests.cpu_milli = DEFAULT_CPU_MILLI;
        }
        if !asks("memory") {
            requests.memory_bytes = DEFAULT_MEMORY_BYTES;
        }
        requests
    })
}

fn requests_of(spec: &PodSpec, of: &dyn Fn(&Container) -> Resources) -> Resources {
    let mut together = Resources::default();
    spec.containers.iter().for_each(|container| together.add(&of(container)));
    let (mut sidecars, mut starting) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut requests = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            together.add(&requests);
            sidecars.add(&requests);
            starting.raise_to(&sidecars);
        } else {
            requests.add(&sidecars);
            starting.raise_to(&requests);
        }
    }
    together.raise_to(&starting);
    if let Some(quantities) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let pod = Resources::read(Some(quantities));
        for name in quantities.keys() {
            match name.as_str() {
                "cpu" => together.cpu_milli = pod.cpu_milli,
                "memory" => together.memory_bytes = pod.memory_bytes,
                other => drop(pod.others.get(other).map(|amount| together.others.insert(other.into(), *amount))),
            }
        }
    }
    together.add(&Resources::read(spec.overhead.as_ref()));
    together
}
