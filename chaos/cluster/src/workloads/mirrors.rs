//! Clients that keep copies by list and watch, as informers do: of ConfigMaps, pods, nodes and leases, each through each
//! master. They leave now and then, or are thrown off, resume where they were, and list again when they must or like to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::Method;
use keelstone_chaos_bed::Outcome;
use keelstone_chaos_store::{
    workloads::{typed, Actor, Workload},
    Class, Line,
};
use keelstone_checkers::{
    mirror::{check, Kind, Mirror, Seen},
    Event, Violation,
};
use rand::Rng;
use serde_json::Value;

use crate::{
    api::{items, revision, Api},
    constants::{CALL_MAX, CONVERGE_MAX, MIRROR_EVENTS_MAX, POLL},
    http_client::Lines,
};

/// Path of the list, and where the objects lie in the store.
const RESOURCES: [(&str, &str); 4] = [
    ("/api/v1/configmaps", "/registry/core/configmaps/"),
    ("/api/v1/pods", "/registry/core/pods/"),
    ("/api/v1/nodes", "/registry/core/nodes/"),
    ("/apis/coordination.k8s.io/v1/leases", "/registry/coordination.k8s.io/leases/"),
];

/// Silence for so long, and the client resumes: the stream may be dead.
const SILENCE_MAX: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct Mirrors {
    api: Arc<Api>,
    copies: Mutex<BTreeMap<u32, Copy>>,
}

/// What one client has.
#[derive(Clone, Debug, Default)]
struct Copy {
    /// The master that it is made through.
    host: String,
    /// The last is the one that it goes on with.
    mirrors: Vec<Mirror>,
    must_list: bool,
    /// Complete up to here.
    revision: i64,
}

impl Mirrors {
    pub fn new(api: Arc<Api>) -> Self {
        Self { api, copies: Mutex::default() }
    }

    fn copies(&self) -> MutexGuard<'_, BTreeMap<u32, Copy>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resource(&self, number: u32) -> (&'static str, &'static str) {
        RESOURCES[number as usize / self.api.masters().len().max(1) % RESOURCES.len()]
    }

    async fn list(&self, actor: &mut Actor) -> bool {
        let (path, prefix) = self.resource(actor.number);
        let start_us = actor.now_us();
        let list = self.api.send(actor, Method::GET, path, None).await.success();
        match list {
            Ok(list) => {
                let mirror = Mirror {
                    name: format!("the copy of {path} through {}", actor.host),
                    prefix: prefix.into(),
                    listed_at: revision(&list),
                    list: items(&list).map(|i| (key(prefix, i), revision(i))).collect(),
                    events: Vec::new(),
                };
                let mut copies = self.copies();
                let copy = copies.entry(actor.number).or_default();
                (copy.revision, copy.must_list) = (mirror.listed_at, false);
                copy.host.clone_from(&actor.host);
                copy.mirrors.push(mirror);
                actor.record(start_us, "list", Class::Ok, false, &Value::Null);
                true
            }
            Err(error) => {
                actor.record(start_us, "list", Class::Failed, false, &error);
                false
            }
        }
    }

    async fn watch(&self, actor: &mut Actor, leave_at: Instant) {
        let (path, prefix) = self.resource(actor.number);
        let from = self.copies().get(&actor.number).map_or(0, |c| c.revision);
        let path = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
        let start_us = actor.now_us();
        let Some(endpoint) = self.api.endpoint(&actor.host, actor.number) else { return };
        let mut lines = match endpoint.lines(&path, CALL_MAX).await {
            Ok(lines) => lines,
            Err(error) => return actor.record(start_us, "watch", Class::Failed, false, &error),
        };
        if lines.code != 200 {
            if lines.code == 410 {
                self.must_list(actor.number);
            }
            return actor.record(start_us, "watch", Class::Failed, false, &lines.code);
        }
        self.follow(actor.number, prefix, &mut lines, leave_at).await;
        actor.record(start_us, "watch", Class::Ok, false, &from);
    }

    async fn follow(&self, number: u32, prefix: &str, lines: &mut Lines, leave_at: Instant) {
        while let Ok(Ok(Some(event))) =
            tokio::time::timeout_at(leave_at.into(), tokio::time::timeout(SILENCE_MAX, lines.next())).await
        {
            let kind: Result<Kind, _> = serde_json::from_value(event["type"].clone());
            let Ok(kind) = kind else {
                if event["object"]["code"] == 410 {
                    self.must_list(number);
                }
                return;
            };
            let object = &event["object"];
            let key = if kind == Kind::Bookmark { String::new() } else { key(prefix, object) };
            let mut copies = self.copies();
            let copy = copies.entry(number).or_default();
            let Some(mirror) = copy.mirrors.last_mut() else { return };
            if mirror.events.len() < MIRROR_EVENTS_MAX {
                mirror.events.push(Seen { kind, key, revision: revision(object) });
            }
            copy.revision = copy.revision.max(revision(object));
        }
    }

    fn must_list(&self, number: u32) {
        self.copies().entry(number).or_default().must_list = true;
    }

    /// Goes on until the copy is complete up to `last`.
    async fn catch_up(&self, actor: &mut Actor, last: i64) {
        let begun = Instant::now();
        while begun.elapsed() < CONVERGE_MAX {
            let (listed, at) = self.copies().get(&actor.number).map_or((false, 0), |c| (!c.must_list, c.revision));
            if listed && at >= last {
                return;
            }
            if !listed && !self.list(actor).await {
                tokio::time::sleep(POLL).await;
            }
            self.watch(actor, Instant::now() + Duration::from_secs(2)).await;
        }
    }
}

/// Where an object lies in the store.
fn key(prefix: &str, object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{prefix}{namespace}/{name}"),
        None => format!("{prefix}{name}"),
    }
}

#[async_trait]
impl Workload for Mirrors {
    fn name(&self) -> &'static str {
        "mirrors"
    }

    fn clients(&self, hosts: u32) -> u32 {
        hosts * 4
    }

    /// A turn takes seconds.
    fn acknowledged_min(&self) -> usize {
        12
    }

    async fn turn(&self, actor: &mut Actor) {
        // Numbers are counted over all workloads: what is copied goes by the number alone.
        let must = self.copies().get(&actor.number).is_none_or(|c| c.must_list || c.mirrors.is_empty());
        if (must || actor.rng.random_bool(0.1)) && !self.list(actor).await {
            return;
        }
        let leave_at = Instant::now() + Duration::from_millis(actor.rng.random_range(3_000..15_000));
        self.watch(actor, leave_at).await;
    }

    /// Every copy must reach the end of its resource's log.
    async fn finish(&self, actor: &mut Actor) -> Outcome<()> {
        let copies: Vec<(u32, String)> = self.copies().iter().map(|(n, c)| (*n, c.host.clone())).collect();
        for (number, through) in copies {
            let (path, _) = self.resource(number);
            let wanted = self.api.ask(super::OBSERVER, Method::GET, path, None).await;
            // The newest object that is there: a deletion after it cannot be told from outside.
            let last = wanted.ok().and_then(|list| items(&list).map(revision).max()).unwrap_or(0);
            let (own, host) = (actor.number, actor.host.clone());
            (actor.number, actor.host) = (number, through);
            self.catch_up(actor, last).await;
            (actor.number, actor.host) = (own, host);
            let copy = self.copies().get(&number).cloned().unwrap_or_default();
            let now_us = actor.now_us();
            for mirror in &copy.mirrors {
                actor.record(now_us, "copy", Class::Info, false, mirror);
            }
            actor.record(now_us, "reached", Class::Info, false, &[copy.revision, last]);
        }
        Ok(())
    }

    fn check(&self, lines: &[&Line], log: &[Event]) -> Result<(), Violation> {
        for [reached, last] in typed::<[i64; 2]>(lines, &["reached"])? {
            if reached < last {
                let story = format!("a copy is at {reached} for good and never comes to {last}");
                return Err(Violation::new("list + watch = state (9)", story));
            }
        }
        typed::<Mirror>(lines, &["copy"])?.iter().try_for_each(|mirror| check(mirror, log))
    }
}
