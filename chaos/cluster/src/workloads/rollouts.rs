//! A Deployment that is scaled and rolled out again and again. Judged by the store's log (never too many pods, no node with
//! too much), and at the end: as many pods are ready as were asked for, every master shows the same ones, and exactly
//! their processes run.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use http::Method;
use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_chaos_store::{
    workloads::{typed, Actor, Workload},
    Class, Cluster, Line,
};
use keelstone_checkers::{objects::changes, overcommit, replicas, Event, Violation};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use super::{deployment, make, make_namespace, ready, until, OBSERVER};
use crate::{
    api::{class, name, Api},
    constants::CONVERGE_MAX,
    processes,
};

const NAMESPACE: &str = "rollouts";
const APP: &str = "web";
const REPLICAS_MAX: u64 = 5;
const PAUSE_MS: std::ops::Range<u64> = 2_000..7_000;

#[derive(Debug)]
pub struct Rollouts {
    api: Arc<Api>,
}

/// What is there at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    wanted: u64,
    /// By master: the pods that are ready.
    ready: Vec<(String, BTreeSet<String>)>,
    /// The pods whose processes run.
    running: BTreeSet<String>,
    /// Why it did not get there in time.
    complaint: Option<String>,
}

fn path() -> String {
    format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{APP}")
}

fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

impl Rollouts {
    pub fn new(api: Arc<Api>) -> Self {
        Self { api }
    }

    /// Reads, changes, and writes back what was read.
    async fn change(&self, actor: &Actor, kind: &str, change: impl FnOnce(&mut Value)) {
        let start_us = actor.now_us();
        let mut object = match self.api.send(actor, Method::GET, &path(), None).await.success() {
            Ok(object) => object,
            Err(error) => return actor.record(start_us, kind, Class::Failed, false, &error),
        };
        change(&mut object);
        let sent = self.api.send(actor, Method::PUT, &path(), Some(&object)).await;
        let class = class(&sent);
        actor.record(start_us, kind, class, true, &sent.success().err());
    }

    async fn end(&self) -> Result<End, String> {
        let list = self.api.ask(OBSERVER, Method::GET, &path(), None).await?;
        let wanted = list["spec"]["replicas"].as_u64().unwrap_or(0);
        let mut end = End { wanted, running: processes::of_pods(NAMESPACE).into_keys().collect(), ..End::default() };
        for master in self.api.masters() {
            let list = self.api.send_to(&master, OBSERVER, Method::GET, &pods(), None).await.success()?;
            end.ready.push((master, ready(&list).into_iter().map(|p| name(p).to_owned()).collect()));
        }
        Ok(end)
    }
}

impl End {
    fn check(&self) -> Result<(), String> {
        if let Some(complaint) = &self.complaint {
            return Err(complaint.clone());
        }
        for (master, ready) in &self.ready {
            if ready.len() as u64 != self.wanted {
                return Err(format!("{} are asked for, and {master} shows {ready:?}", self.wanted));
            }
            if *ready != self.running {
                return Err(format!("{master} shows {ready:?}, and the processes of {:?} run", self.running));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Workload for Rollouts {
    fn name(&self) -> &'static str {
        "rollouts"
    }

    fn clients(&self, _hosts: u32) -> u32 {
        2
    }

    /// A turn takes seconds.
    fn acknowledged_min(&self) -> usize {
        4
    }

    async fn prepare(&self, _cluster: &Cluster) -> Outcome<()> {
        make_namespace(&self.api, NAMESPACE).await?;
        let collection = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
        make(&self.api, &collection, &deployment(APP, NAMESPACE, 3)).await?;
        let all = |list: &Value| (ready(list).len() == 3).then_some(()).ok_or(format!("{} run", ready(list).len()));
        let there = until(&self.api, &pods(), CONVERGE_MAX, all).await;
        there.map(drop).map_err(|said| Failure::impossible(format!("the first rollout: {said}")))
    }

    async fn turn(&self, actor: &mut Actor) {
        let replicas = actor.rng.random_range(1..=REPLICAS_MAX);
        if actor.rng.random_bool(0.6) {
            self.change(actor, "scale", |object| object["spec"]["replicas"] = json!(replicas)).await;
        } else {
            let mark = format!("{:x}", actor.unique());
            let annotate = |o: &mut Value| o["spec"]["template"]["metadata"]["annotations"] = json!({"roll": mark});
            self.change(actor, "roll-out", annotate).await;
        }
        let pause_ms = actor.rng.random_range(PAUSE_MS);
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
    }

    async fn finish(&self, actor: &mut Actor) -> Outcome<()> {
        let begun = std::time::Instant::now();
        let start_us = actor.now_us();
        let mut end = End::default();
        while begun.elapsed() < CONVERGE_MAX {
            match self.end().await {
                Ok(seen) => end = seen,
                Err(said) => end.complaint = Some(format!("no master tells: {said}")),
            }
            if end.check().is_ok() {
                break;
            }
            tokio::time::sleep(crate::constants::POLL).await;
        }
        actor.record(start_us, "end", Class::Info, false, &end);
        Ok(())
    }

    fn check(&self, lines: &[&Line], log: &[Event]) -> Result<(), Violation> {
        for end in typed::<End>(lines, &["end"])? {
            end.check().map_err(|story| Violation::new("replicas converge", story))?;
        }
        let changes = changes(log);
        replicas::check(&changes)?;
        overcommit::check(&changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_not_what_was_asked_for_is_told() {
        let pods = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|n| (*n).to_owned()).collect() };
        let right = End {
            wanted: 2,
            ready: vec![("m1".into(), pods(&["a", "b"]))],
            running: pods(&["a", "b"]),
            complaint: None,
        };
        assert_eq!(right.check(), Ok(()));
        assert!(End { wanted: 3, ..right.clone() }.check().is_err());
        assert!(End { running: pods(&["a", "b", "left-over"]), ..right.clone() }.check().is_err());
        assert!(End { running: pods(&["a"]), ..right.clone() }.check().is_err());
        let differ = vec![("m1".to_owned(), pods(&["a", "b"])), ("m2".to_owned(), pods(&["a", "c"]))];
        assert!(End { ready: differ, ..right }.check().is_err());
    }
}
