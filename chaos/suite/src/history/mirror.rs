//! A client that keeps a copy of a namespace's ConfigMaps by list and watch, as informers do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use keelstone_chaos_cluster::revision;
use keelstone_checkers::Event;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{
    constants::{POLL, SETTLE_MAX},
    failure::{Failure, Outcome},
    http_client::{Connection, Endpoint},
};

const REQUEST_MAX: Duration = Duration::from_secs(5);

/// What a mirror has seen.
#[derive(Clone, Default)]
pub struct Seen {
    pub name: String,
    /// Key: name; value and revision.
    pub state: BTreeMap<String, (String, i64)>,
    /// All events, in the order in which they came.
    pub events: Vec<Event>,
    /// The revisions of the lists that it (re)started from.
    pub lists: Vec<i64>,
    /// Complete up to here.
    pub revision: i64,
    /// A complaint about the order of what came.
    pub complaint: Option<String>,
}

pub struct Mirror {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mirror {
    pub fn start(name: &str, endpoint: &Endpoint, namespace: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen { name: name.to_owned(), ..Seen::default() }));
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let task = tokio::spawn(follow(endpoint.clone(), path, seen.clone()));
        Self { seen, task }
    }

    /// Waits until it has seen `revision`, and returns what it saw.
    pub async fn reached(&self, revision: i64) -> Outcome<Seen> {
        let begun = Instant::now();
        loop {
            let seen = lock(&self.seen).clone();
            if seen.revision >= revision {
                return Ok(seen);
            }
            if begun.elapsed() > SETTLE_MAX {
                let (name, at) = (&seen.name, seen.revision);
                return Err(Failure::broken(format!(
                    "the watch through {name} is at {at} and never reaches {revision}"
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn follow(endpoint: Endpoint, path: String, seen: Arc<Mutex<Seen>>) {
    let mut connection = Connection::new(&endpoint);
    let mut must_list = true;
    loop {
        if must_list {
            match connection.get(&path, REQUEST_MAX).await.success() {
                Ok(list) => {
                    lock(&seen).restart(&list);
                    must_list = false;
                }
                Err(_) => {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            }
        }
        let from = lock(&seen).revision;
        let watch = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
        let Ok(mut lines) = endpoint.lines(&watch, REQUEST_MAX).await else {
            tokio::time::sleep(POLL).await;
            continue;
        };
        must_list = lines.code == 410;
        if lines.code != 200 {
            tokio::time::sleep(POLL).await;
            continue;
        }
        while let Some(event) = lines.next().await {
            if event["type"] == "ERROR" {
                must_list = event["object"]["code"] == 410;
                break;
            }
            lock(&seen).take(&event);
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn value(object: &Value) -> String {
    object["data"]["value"].as_str().unwrap_or_default().to_owned()
}

impl Seen {
    fn restart(&mut self, list: &Value) {
        let at = revision(list);
        if at < self.revision {
            self.complain(format!("a list at {at} after revision {}", self.revision));
        }
        let items = list["items"].as_array().into_iter().flatten();
        // What a watch would have told; all but the last change of an object is missing.
        let news = items.clone().filter(|i| revision(i) > self.revision);
        self.events.extend(news.map(|i| Event { revision: revision(i), key: name(i), value: Some(value(i)) }));
        self.state = items.map(|i| (name(i), (value(i), revision(i)))).collect();
        self.lists.push(at);
        self.revision = at;
    }

    fn take(&mut self, event: &Value) {
        let object = &event["object"];
        let at = revision(object);
        if at < self.revision || (at == self.revision && event["type"] != "BOOKMARK") {
            self.complain(format!("{} at {at} after revision {}", event["type"], self.revision));
        }
        self.revision = self.revision.max(at);
        let key = name(object);
        match event["type"].as_str().unwrap_or_default() {
            "ADDED" | "MODIFIED" => {
                let known = self.state.insert(key.clone(), (value(object), at)).is_some();
                if known != (event["type"] == "MODIFIED") {
                    self.complain(format!("{} of {key} at {at}, known before: {known}", event["type"]));
                }
                self.events.push(Event { revision: at, key, value: Some(value(object)) });
            }
            "DELETED" => {
                self.state.remove(&key);
                self.events.push(Event { revision: at, key, value: None });
            }
            _ => {}
        }
    }

    fn complain(&mut self, text: String) {
        self.complaint.get_or_insert(text);
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
