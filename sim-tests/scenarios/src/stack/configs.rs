//! Users that create, read and change ConfigMaps, each change a compare-and-set, and one that watches them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use keelstone_checkers::{rewind::Newest, watch::Observed, Call, Event, History, Operation, Outcome};
use keelstone_client::{
    Client, ClientError, ClientResult, DynamicApi, DynamicObject, ListOptions, Object, Patch, PatchOptions, WatchEvent,
    WatchOptions,
};
use keelstone_env::Random;
use keelstone_machinery::gvk::GroupVersionResource;
use keelstone_world::SeededRandom;
use serde_json::json;

use crate::{clock::moment_us, effort::Effort, simulation::Shared};

const NAMES: u64 = 8;
/// Every ConfigMap of the users begins with this, and no other does.
pub const NAME_PREFIX: &str = "c-";
const THINK_MS_MAX: u64 = 150;
const RETRY_PAUSE: Duration = Duration::from_millis(300);

fn api(client: &Client) -> DynamicApi {
    client.dynamic(&GroupVersionResource::new("", "v1", "configmaps")).within("default")
}

fn version(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

/// One user: operations one after the other until the run has enough of them.
pub async fn run(id: u32, client: Client, random: SeededRandom, history: Arc<Mutex<History>>, effort: Effort) {
    let api = api(&client);
    let mut writes = 0;
    let mut known = vec![0; NAMES as usize];
    while effort.goes_on() {
        tokio::time::sleep(Duration::from_millis(random.below(THINK_MS_MAX))).await;
        let index = random.below(NAMES) as usize;
        let key = format!("{NAME_PREFIX}{index}");
        writes += 1;
        let value = format!("{id}-{writes}");
        let call = match random.below(10) {
            0..=3 => Call::Read { key },
            4..=7 => Call::CompareAndSet { key, expected: known[index], value },
            _ => Call::Write { key, value },
        };
        let start_us = moment_us();
        let outcome = carry_out(&api, &call).await.unwrap_or_else(|error| judge(&error));
        let end_us = moment_us();
        match &outcome {
            Outcome::Read { mod_revision, .. } => known[index] = *mod_revision,
            Outcome::Written { revision } => known[index] = *revision,
            _ => {}
        }
        let operation = Operation { client: id, start_us, end_us, call, outcome };
        effort.count(&operation.outcome, &format!("{operation:?}"));
        history.lock().expect("no panic while locked").operations.push(operation);
    }
}

/// What an error says of a write.
pub fn judge(error: &ClientError) -> Outcome {
    let certain = match error {
        ClientError::Status(status) => status.code < 500,
        ClientError::Transport(_) | ClientError::NotLeader(_) => true,
        ClientError::OutcomeUnknown(_) | ClientError::Decode(_) => false,
    };
    let error = error.to_string();
    if certain {
        Outcome::Failed { error }
    } else {
        Outcome::Unknown { error }
    }
}

fn config_map(key: &str, expected: i64, value: &str) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": key, "namespace": "default"}, "data": {"v": value},
    });
    if expected > 0 {
        object["metadata"]["resourceVersion"] = expected.to_string().into();
    }
    DynamicObject(object)
}

async fn carry_out(api: &DynamicApi, call: &Call) -> ClientResult<Outcome> {
    let written = match call {
        Call::Read { key } => {
            // A list says at which revision it was read, which a get does not.
            let list = api.list(&ListOptions::default().fields(format!("metadata.name={key}"))).await?;
            let found = list.items.first();
            return Ok(Outcome::Read {
                value: found.map(value_of),
                mod_revision: found.map_or(0, |object| version(object.resource_version())),
                revision: version(&list.resource_version),
            });
        }
        Call::CompareAndSet { key, expected: 0, value } => api.create(&config_map(key, 0, value)).await?,
        Call::CompareAndSet { key, expected, value } => api.update(&config_map(key, *expected, value)).await?,
        Call::Write { key, value } => {
            api.patch(key, &Patch::Merge(json!({"data": {"v": value}})), &PatchOptions::default()).await?
        }
        Call::Delete { .. } => return Err(ClientError::Decode("users do not delete".into())),
    };
    Ok(Outcome::Written { revision: version(written.resource_version()) })
}

pub fn value_of(object: &DynamicObject) -> String {
    object.0["data"]["v"].as_str().unwrap_or_default().to_owned()
}

/// What the watcher saw, and the state that its list and events together say.
#[derive(Clone, Default)]
pub struct Followed(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// One entry for each list.
    observed: Vec<Observed>,
    /// Name to value.
    state: BTreeMap<String, String>,
}

impl Followed {
    pub fn observed(&self) -> Vec<Observed> {
        self.0.lock().expect("no panic while locked").observed.clone()
    }

    /// Name to value, as list + watch have it.
    pub fn state(&self) -> BTreeMap<String, String> {
        self.0.lock().expect("no panic while locked").state.clone()
    }
}

/// Lists and watches for ever; after an error the watch goes on where it was, at any master, and lists again
/// only if its place is gone.
pub async fn follow(client: Client, followed: Followed, shared: Shared, skips: bool) {
    let api = api(&client);
    let mut skip = skips.then_some(12);
    let mut from: Option<i64> = None;
    let mut newest = Newest::default();
    loop {
        let start = match from {
            Some(version) => Ok(version),
            None => relist(&api, &followed).await,
        };
        match start {
            Ok(start) => {
                if let Err(violation) = newest.observe("the watcher of ConfigMaps", start) {
                    shared.violated(violation);
                }
                from = watch_from(&api, start, &followed, &shared, &mut skip).await;
                // What it has seen counts also if its place is gone.
                let seen = followed.observed().last().map_or(0, |observed| observed.complete_to);
                if let Err(violation) = newest.observe("the watcher of ConfigMaps", seen) {
                    shared.violated(violation);
                }
            }
            Err(error) => shared.hash(&format!("configs: {error}")),
        }
        shared.saw("api_watch_resumed");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn relist(api: &DynamicApi, followed: &Followed) -> ClientResult<i64> {
    let list = api.list_all(&ListOptions::default()).await?;
    let start = version(&list.resource_version);
    let mut guard = followed.0.lock().expect("no panic while locked");
    let users = list.items.iter().filter(|object| object.name().starts_with(NAME_PREFIX));
    guard.state = users.map(|object| (object.name().to_owned(), value_of(object))).collect();
    guard.observed.push(Observed {
        watcher: format!("of ConfigMaps from {start}"),
        start_revision: start + 1,
        complete_to: start,
        prefix: NAME_PREFIX.into(),
        ..Observed::default()
    });
    Ok(start)
}

/// Returns where to go on, or nothing if that place is gone.
async fn watch_from(
    api: &DynamicApi,
    start: i64,
    followed: &Followed,
    shared: &Shared,
    skip: &mut Option<u32>,
) -> Option<i64> {
    let options =
        WatchOptions { resource_version: Some(start.to_string()), bookmarks: true, ..WatchOptions::default() };
    let mut stream = match api.watch(&options).await {
        Ok(stream) => stream,
        Err(error) if error.is_gone() => return None,
        Err(_) => return Some(start),
    };
    let mut at = start;
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) if error.is_gone() => return None,
            Err(_) => return Some(at),
        };
        shared.hash(&format!("configs: {event:?}"));
        at = take(followed, event, skip).max(at);
    }
    Some(at)
}

fn take(followed: &Followed, event: WatchEvent<DynamicObject>, skip: &mut Option<u32>) -> i64 {
    let mut guard = followed.0.lock().expect("no panic while locked");
    let (object, deleted) = match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
        WatchEvent::Deleted(object) => (object, true),
        WatchEvent::Bookmark { resource_version, .. } => {
            let revision = version(&resource_version);
            if let Some(observed) = guard.observed.last_mut() {
                observed.progress.push((observed.answers.len(), revision));
                observed.complete_to = observed.complete_to.max(revision);
            }
            return revision;
        }
    };
    let (revision, key) = (version(object.resource_version()), object.name().to_owned());
    if !key.starts_with(NAME_PREFIX) {
        if let Some(observed) = guard.observed.last_mut() {
            observed.complete_to = observed.complete_to.max(revision);
        }
        return revision;
    }
    if let Some(left) = skip {
        if *left == 0 {
            // The planted defect: this event was never seen.
            *skip = None;
            return revision;
        }
        *left -= 1;
    }
    let value = (!deleted).then(|| value_of(&object));
    match &value {
        Some(value) => guard.state.insert(key.clone(), value.clone()),
        None => guard.state.remove(&key),
    };
    if let Some(observed) = guard.observed.last_mut() {
        observed.complete_to = observed.complete_to.max(revision);
        observed.answers.push(vec![Event { revision, key, value }]);
    }
    revision
}
