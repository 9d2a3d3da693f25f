//! The two questions of every operator, with figures: what happens when a master fails, and when a worker fails.
//!
//! Each figure is the time from the SIGKILL until something was seen. Looks come every [`LOOK`], so that is their error.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{json, Value};

use super::{median, milliseconds};
use crate::{
    cluster::Cluster,
    constants::{REQUEST_MAX, SETTLE_MAX},
    failure::{Failure, Outcome},
    http_client::{Connection, Endpoint},
    own_cluster::with_cluster_of,
    store_members,
    story::{condition, items},
    writer::Writer,
};

const LOOK: Duration = Duration::from_millis(25);
/// A look that takes longer is made again: its connection may lead to the dead.
const LOOK_MAX: Duration = Duration::from_secs(1);
const REPLICAS: u64 = 6;
const NAMESPACE: &str = "losses";
const APP: &str = "idle";

/// Kills a master `rounds` times and workers `rounds` times, on a cluster of its own with fast or Kubernetes' periods.
pub async fn losses(keelstone: &Path, runtime: &str, rounds: u32, default_timings: bool) -> Outcome<()> {
    let flags: &[&str] = if default_timings { &["--default-timings"] } else { &[] };
    with_cluster_of(keelstone, runtime, flags, |cluster| async move {
        let losses = Losses::prepare(cluster).await?;
        let timings = if default_timings { "Kubernetes' periods" } else { "fast periods" };
        println!("\n== A master is killed ({timings}), {rounds} times");
        let mut table = Table::default();
        for round in 0..rounds {
            losses.master(round, &mut table).await?;
        }
        table.print();
        println!("\n== A worker is killed with all its containers ({timings}), {rounds} times");
        let mut table = Table::default();
        for _ in 0..rounds {
            losses.worker(&mut table).await?;
        }
        table.print();
        Ok(())
    })
    .await
}

/// Times by what was waited for, in the order of their first appearance.
#[derive(Default)]
struct Table(Vec<(String, Vec<Duration>)>);

impl Table {
    fn add(&mut self, what: &str, time: Duration) {
        match self.0.iter_mut().find(|(name, _)| name == what) {
            Some((_, times)) => times.push(time),
            None => self.0.push((what.to_owned(), vec![time])),
        }
    }

    fn print(&mut self) {
        for (what, times) in &mut self.0 {
            let max = times.iter().max().copied().unwrap_or_default();
            println!("  {what:44} median {:>12}  max {:>12}", milliseconds(median(times)), milliseconds(max));
        }
    }
}

struct Losses {
    cluster: Cluster,
    endpoint: Endpoint,
    /// What is waited for at most.
    limit: Duration,
}

fn broken(what: &str) -> impl FnOnce(String) -> Failure + '_ {
    move |said| Failure::broken(format!("{what}: {said}"))
}

impl Losses {
    async fn prepare(cluster: Cluster) -> Outcome<Self> {
        let endpoint = Endpoint::new(&cluster.balancer()?)?;
        let limit = SETTLE_MAX + 2 * (cluster.grace + cluster.toleration);
        let losses = Self { cluster, endpoint, limit };
        let container = json!({"name": APP, "image": crate::constants::IMAGE, "command": ["/bin/sleep", "1000000"]});
        let template = json!({"metadata": {"labels": {"app": APP}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": APP},
            "spec": {"replicas": REPLICAS, "selector": {"matchLabels": {"app": APP}}, "template": template}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        losses.make("/api/v1/namespaces", &namespace).await?;
        losses.make(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"), &deployment).await?;
        losses.all_run().await?;
        Ok(losses)
    }

    async fn make(&self, path: &str, object: &Value) -> Outcome<()> {
        let sent = Connection::new(&self.endpoint).send(Method::POST, path, Some(object), REQUEST_MAX).await;
        sent.success().map(drop).map_err(broken(path))
    }

    /// Looks until `seen` says yes; the time since `from`.
    async fn until(&self, what: &str, from: Instant, path: &str, seen: impl Fn(&Value) -> bool) -> Outcome<Duration> {
        let mut connection = Connection::new(&self.endpoint);
        let mut last = String::new();
        while from.elapsed() < self.limit {
            match connection.get(path, LOOK_MAX).await.success() {
                Ok(answer) if seen(&answer) => return Ok(from.elapsed()),
                Ok(_) => last = "not yet".into(),
                Err(error) => last = error,
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(broken(what)(format!("not within {:?}: {last}", self.limit)))
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{APP}")
    }

    async fn all_run(&self) -> Outcome<()> {
        let all = |list: &Value| items(list).filter(|p| runs(p)).count() as u64 == REPLICAS;
        self.until("all replicas run", Instant::now(), &self.pods(), all).await.map(drop)
    }

    /// Who holds a lease of the control plane: the master's name is in the holder's.
    async fn holder(&self, lease: &str) -> Option<String> {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{lease}");
        let lease = Connection::new(&self.endpoint).get(&path, REQUEST_MAX).await.success().ok()?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        self.cluster.masters.iter().find(|m| holder.starts_with(m.as_str())).cloned()
    }

    /// The store's leader in even rounds, the master whose scheduler acts in odd ones.
    async fn victim(&self, round: u32) -> Outcome<String> {
        let leader = store_members::leader(&self.cluster).await.map_err(broken("the store's leader"))?;
        let acting = self.holder("kube-scheduler").await;
        let controllers = self.holder("kube-controller-manager").await;
        println!("  store led by {leader}, scheduler on {acting:?}, controllers on {controllers:?}");
        Ok(if round.is_multiple_of(2) { leader } else { acting.unwrap_or(leader) })
    }

    async fn master(&self, round: u32, table: &mut Table) -> Outcome<()> {
        let victim = self.victim(round).await?;
        let led = store_members::leader(&self.cluster).await.is_ok_and(|l| l == victim);
        let writer = Writer::start(&self.endpoint, NAMESPACE);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let killed = Instant::now();
        self.cluster.kill(&victim, &[]).await?;
        let (leader, scheduled, controlled) =
            tokio::join!(self.new_leader(killed, &victim), self.scheduled(killed, round), self.controlled(killed));
        let record = writer.record();
        if let Some(refused) = record.refused.iter().find(|at| **at >= killed) {
            table.add("first refused or unanswered write", refused.duration_since(killed));
        }
        if led {
            table.add("a new leader of the store", leader?);
        }
        let written = record.acknowledged.iter().find(|(sent, _)| *sent > killed);
        if let Some((_, answered)) = written {
            table.add("first acknowledged write", answered.duration_since(killed));
        }
        table.add("longest time without acknowledged writes", record.longest_gap(killed));
        table.add("the scheduler binds a pod made after it", scheduled?);
        table.add("the controllers replace a deleted pod", controlled?);
        drop(writer);
        self.cluster.up().await?;
        self.all_run().await
    }

    async fn new_leader(&self, killed: Instant, victim: &str) -> Outcome<Duration> {
        while killed.elapsed() < self.limit {
            for master in self.cluster.masters.iter().filter(|m| *m != victim) {
                if store_members::status(&self.cluster, master).await.is_ok_and(|s| s.is_leader) {
                    return Ok(killed.elapsed());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Failure::broken("no new leader"))
    }

    /// A pod is made as soon as writes go on, and bound.
    async fn scheduled(&self, killed: Instant, round: u32) -> Outcome<Duration> {
        let name = format!("single-{round}");
        let container = json!({"name": APP, "image": crate::constants::IMAGE, "command": ["/bin/sleep", "1000000"]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}});
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let mut connection = Connection::new(&self.endpoint);
        while killed.elapsed() < self.limit {
            // A second try may find the first one's pod.
            match connection.send(Method::POST, &path, Some(&pod), LOOK_MAX).await.success() {
                Err(error) if !error.starts_with("409") => tokio::time::sleep(LOOK).await,
                _ => break,
            }
        }
        let bound = |pod: &Value| pod["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
        self.until("the pod is bound", killed, &format!("{path}/{name}"), bound).await
    }

    /// A replica is deleted as soon as writes go on, and another one appears.
    async fn controlled(&self, killed: Instant) -> Outcome<Duration> {
        let mut connection = Connection::new(&self.endpoint);
        let mut deleted = String::new();
        while killed.elapsed() < self.limit && deleted.is_empty() {
            if let Ok(list) = connection.get(&self.pods(), LOOK_MAX).await.success() {
                let name = items(&list).find_map(|p| p["metadata"]["name"].as_str()).unwrap_or_default().to_owned();
                let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}");
                if connection.send(Method::DELETE, &path, None, LOOK_MAX).await.success().is_ok() {
                    deleted = name;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        let replaced = |list: &Value| {
            let there = items(list).filter(|p| p["metadata"]["name"] != deleted.as_str());
            there.filter(|p| p["metadata"]["deletionTimestamp"].is_null()).count() as u64 >= REPLICAS
        };
        self.until("the pod is replaced", killed, &self.pods(), replaced).await
    }

    async fn worker(&self, table: &mut Table) -> Outcome<()> {
        self.all_run().await?;
        let mut connection = Connection::new(&self.endpoint);
        let list = connection.get(&self.pods(), REQUEST_MAX).await.success().map_err(broken("pods"))?;
        let node = |p: &Value| p["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        let victim = items(&list).next().map(node).unwrap_or_default();
        let lost = items(&list).filter(|p| node(p) == victim).count();
        println!("  {victim} is killed, with {lost} of {REPLICAS} pods");
        let killed = Instant::now();
        self.cluster.kill(&victim, &["--containers"]).await?;
        let not_ready = |n: &Value| condition(n, "Ready") != "True";
        let path = format!("/api/v1/nodes/{victim}");
        table.add("its node is NotReady", self.until("NotReady", killed, &path, not_ready).await?);
        let evicted = |list: &Value| {
            let there = items(list).filter(|p| node(p) == victim);
            there.filter(|p| p["metadata"]["deletionTimestamp"].is_null()).count() == 0
        };
        table.add("its pods are evicted", self.until("evicted", killed, &self.pods(), evicted).await?);
        let elsewhere = |list: &Value| items(list).filter(|p| runs(p) && node(p) != victim).count() as u64 == REPLICAS;
        table.add("all replicas run elsewhere", self.until("elsewhere", killed, &self.pods(), elsewhere).await?);
        let returned = Instant::now();
        self.cluster.up().await?;
        let ready = |n: &Value| condition(n, "Ready") == "True";
        let back = self.until("Ready again", returned, &path, ready).await?;
        table.add("back: its node is Ready", back);
        Ok(())
    }
}

fn runs(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && condition(pod, "Ready") == "True"
}
