use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{condition, items, manifests::NAME, Story};
use crate::{
    constants::SETTLE_MAX,
    failure::{Failure, Outcome},
    processes,
    report::eventually,
};

/// A pod as the story looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub node: String,
    pub ip: String,
    pub ready: bool,
    /// It is being deleted.
    pub leaving: bool,
    /// Restarts of its first container.
    pub restarts: i64,
}

impl Pod {
    fn from(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            name: text(&pod["metadata"]["name"]),
            node: text(&pod["spec"]["nodeName"]),
            ip: text(&pod["status"]["podIP"]),
            ready: pod["status"]["phase"] == "Running" && condition(pod, "Ready") == "True",
            leaving: !pod["metadata"]["deletionTimestamp"].is_null(),
            restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0),
        }
    }
}

impl Story {
    pub async fn pods(&self) -> Result<Vec<Pod>, String> {
        let list = self.json(&["get", "pods", "-l", &format!("app={NAME}")]).await?;
        Ok(items(&list).map(Pod::from).collect())
    }

    /// Waits until exactly `count` pods of the Deployment run, besides those that are leaving.
    pub async fn running_pods(&self, count: usize) -> Outcome<(Vec<Pod>, Duration)> {
        self.running_pods_where(count, |_| true).await
    }

    /// As [`Story::running_pods`], all of which must be as `wanted` says.
    pub async fn running_pods_where(
        &self,
        count: usize,
        wanted: impl Fn(&Pod) -> bool,
    ) -> Outcome<(Vec<Pod>, Duration)> {
        let wanted = &wanted;
        eventually(&format!("{count} pods run"), SETTLE_MAX, || async move {
            let staying: Vec<Pod> = self.pods().await?.into_iter().filter(|p| !p.leaving).collect();
            let right = staying.iter().filter(|p| p.ready && wanted(p)).count();
            let summary = format!("{right} of {} are as wanted: {staying:?}", staying.len());
            (right == count && staying.len() == count).then_some(staying).ok_or(summary)
        })
        .await
    }

    /// As [`Story::running_pods`]; none may be leaving any more.
    pub async fn only_running_pods(&self, count: usize) -> Outcome<Vec<Pod>> {
        let alone = eventually("no pod is leaving", SETTLE_MAX, || async {
            let pods = self.pods().await?;
            let leaving = pods.iter().filter(|p| p.leaving).count();
            (leaving == 0).then_some(()).ok_or(format!("{leaving} are"))
        });
        alone.await?;
        Ok(self.running_pods(count).await?.0)
    }

    /// Waits until the Service's endpoints are exactly these pods' addresses.
    pub async fn endpoints_are(&self, pods: &[Pod]) -> Outcome<Duration> {
        let wanted: BTreeSet<&str> = pods.iter().map(|p| p.ip.as_str()).collect();
        let wanted = &wanted;
        let found = eventually("the endpoints are the pods'", SETTLE_MAX, || async move {
            let endpoints = self.json(&["get", "endpoints", NAME]).await?;
            let subsets = endpoints["subsets"].as_array().into_iter().flatten();
            let addresses = subsets.flat_map(|s| s["addresses"].as_array().into_iter().flatten());
            let found: BTreeSet<&str> = addresses.filter_map(|a| a["ip"].as_str()).collect();
            (found == *wanted).then_some(()).ok_or(format!("{found:?}, not {wanted:?}"))
        });
        Ok(found.await?.1)
    }

    /// Whether containers can be seen on this machine.
    pub fn containers_are_real(&self) -> bool {
        self.cluster.runtime != "hollow"
    }

    /// The processes of these pods' containers; every pod must have some.
    pub fn processes_of(&self, pods: &[Pod]) -> Outcome<BTreeSet<(i32, u64)>> {
        let mut all = BTreeSet::new();
        if !self.containers_are_real() {
            return Ok(all);
        }
        for pod in pods {
            let found = processes::of_pod(&self.namespace, &pod.name);
            if found.is_empty() {
                return Err(Failure::broken(format!("pod {} is Running, but no process of it is there", pod.name)));
            }
            all.extend(found);
        }
        Ok(all)
    }

    /// Whether any process of these pods' containers is there.
    pub fn has_processes(&self, pods: &[Pod]) -> bool {
        pods.iter().any(|pod| !processes::of_pod(&self.namespace, &pod.name).is_empty())
    }
}
