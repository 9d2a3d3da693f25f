//! Pods with names of their own (identities, as a StatefulSet's), which write down every fifth of a second that they run:
//! at most one of an identity at a time, whatever is lost. A client deletes them now and then, and makes those anew that
//! are gone, as the controller of a StatefulSet does.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use http::Method;
use keelstone_chaos_bed::{Failure, Outcome};
use keelstone_chaos_store::{
    workloads::{typed, Actor, Workload},
    Class, Cluster, Line,
};
use keelstone_checkers::{
    identity::{check, Ran},
    Event, Violation,
};
use rand::Rng;
use serde_json::{json, Value};

use super::{make, make_namespace, ready, template, until};
use crate::{
    api::{class, Api},
    constants::CONVERGE_MAX,
    http_client::Sent,
};

const NAMESPACE: &str = "identities";
const APP: &str = "only";
const IDENTITIES: u64 = 2;
const PAUSE_MS: std::ops::Range<u64> = 1_000..3_000;
/// One file for each run: `<pod>.<uid>.<uptime at its start>`; each line is the uptime in seconds, which all processes of a
/// machine share.
const SCRIPT: &str = "now() { /bin/busybox cut -d' ' -f1 /proc/uptime; }
file=/journals/$KEELSTONE_CHAOS_POD.$POD_UID.$(now)
trap 'exit 0' TERM
while :; do now >> $file; /bin/busybox sleep 0.2; done";

#[derive(Debug)]
pub struct Identities {
    api: Arc<Api>,
    journals: PathBuf,
}

impl Identities {
    pub fn new(api: Arc<Api>, journals: PathBuf) -> Self {
        Self { api, journals }
    }

    fn pod(&self, i: u64) -> Value {
        let mut pod = template(APP, NAMESPACE, SCRIPT);
        (pod["apiVersion"], pod["kind"]) = (json!("v1"), json!("Pod"));
        pod["metadata"]["name"] = json!(format!("{APP}-{i}"));
        pod["spec"]["volumes"] = json!([{"name": "journals", "hostPath": {"path": self.journals}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "journals", "mountPath": "/journals"}]);
        pod
    }
}

fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// What the pods wrote down.
fn runs(journals: &Path) -> Vec<Ran> {
    let files = fs::read_dir(journals).into_iter().flatten().flatten().map(|e| e.path());
    files.filter_map(|file| run(&file.file_name()?.to_string_lossy(), &fs::read_to_string(&file).ok()?)).collect()
}

fn run(file: &str, journal: &str) -> Option<Ran> {
    let (identity, run) = file.split_once('.')?;
    // The last line may be cut off.
    let whole = &journal[..=journal.rfind('\n')?];
    let uptimes = whole.lines().filter_map(|l| l.trim().parse::<f64>().ok());
    let times: Vec<u64> = uptimes.map(|s| (s * 1e6) as u64).collect();
    let (start_us, end_us) = (times.iter().min()?, times.iter().max()?);
    Some(Ran { identity: identity.into(), run: run.into(), start_us: *start_us, end_us: *end_us })
}

#[async_trait]
impl Workload for Identities {
    fn name(&self) -> &'static str {
        "identities"
    }

    fn clients(&self, _hosts: u32) -> u32 {
        1
    }

    /// A turn takes seconds.
    fn acknowledged_min(&self) -> usize {
        2
    }

    async fn prepare(&self, _cluster: &Cluster) -> Outcome<()> {
        fs::create_dir_all(&self.journals)?;
        make_namespace(&self.api, NAMESPACE).await?;
        for i in 0..IDENTITIES {
            make(&self.api, &pods(), &self.pod(i)).await?;
        }
        let all = |list: &Value| {
            let count = ready(list).len() as u64;
            (count == IDENTITIES).then_some(()).ok_or(format!("{count} run"))
        };
        let there = until(&self.api, &pods(), CONVERGE_MAX, all).await;
        there.map(drop).map_err(|said| Failure::impossible(format!("the identities: {said}")))
    }

    async fn turn(&self, actor: &mut Actor) {
        let pause_ms = actor.rng.random_range(PAUSE_MS);
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        let i = actor.rng.random_range(0..IDENTITIES);
        if actor.rng.random_bool(0.4) {
            let start_us = actor.now_us();
            let sent = self.api.send(actor, Method::DELETE, &format!("{}/{APP}-{i}", pods()), None).await;
            actor.record(start_us, "delete", class(&sent), true, &i);
        }
        for i in 0..IDENTITIES {
            let start_us = actor.now_us();
            let sent = self.api.send(actor, Method::POST, &pods(), Some(&self.pod(i))).await;
            // It is there, perhaps on its way out: an answer like any other.
            match &sent {
                Sent::Answer { code: 409, .. } => actor.record(start_us, "make", Class::Ok, false, &i),
                other => actor.record(start_us, "make", class(other), true, &i),
            }
        }
    }

    async fn finish(&self, actor: &mut Actor) -> Outcome<()> {
        let now_us = actor.now_us();
        for ran in runs(&self.journals) {
            actor.record(now_us, "ran", Class::Info, false, &ran);
        }
        Ok(())
    }

    fn check(&self, lines: &[&Line], _log: &[Event]) -> Result<(), Violation> {
        let all = typed::<Ran>(lines, &["ran"])?;
        let mut by_identity: BTreeMap<&str, usize> = BTreeMap::new();
        for ran in &all {
            *by_identity.entry(&ran.identity).or_default() += 1;
        }
        if lines.iter().any(|l| l.kind == "make") && by_identity.len() < IDENTITIES as usize {
            return Err(Violation::new("history", format!("only {by_identity:?} wrote down that they ran")));
        }
        check(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_without_its_torn_end() {
        let ran = run("only-0.uid.12.34", "12.34\n12.55\n13").unwrap();
        let expected =
            Ran { identity: "only-0".into(), run: "uid.12.34".into(), start_us: 12_340_000, end_us: 12_550_000 };
        assert_eq!(ran, expected);
        assert_eq!(run("only-0.uid.12.34", "12"), None);
    }
}
