//! A small API in memory with lists, watches, conflicts, patches and faults, for tests of what is built on the
//! client. Included by path from other crates' tests.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use keelstone_client::{Body, BoxError, Client, Transport, TransportError};
use keelstone_env::Env;
use keelstone_machinery::{gvk::GroupResource, meta, selector::LabelSelector, ApiResult, ApiStatus};
use serde_json::{json, Value};
use tokio::sync::watch;

/// What happens to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused before it is sent.
    Refuse,
    /// Acted on, but the answer is lost.
    LoseAnswer,
    /// Never answered, nor acted on.
    Hang,
    /// 503, as without quorum.
    Unavailable,
    /// 504, but a log has it: it is acted on just before the next write is. Reads do not show it.
    Stuck,
}

#[derive(Clone)]
struct Change {
    revision: u64,
    kind: &'static str,
    resource: String,
    object: Value,
    previous: Option<Value>,
}

#[derive(Default)]
struct State {
    /// By resource, then `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    log: Vec<Change>,
    revision: u64,
    compacted: u64,
    uids: u64,
    /// The next requests, with the method they wait for.
    faults: Vec<(Method, Fault)>,
    all: Option<Fault>,
    stuck: Vec<(Method, Target, Value)>,
    writes: Vec<String>,
    lists: Vec<String>,
}

#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<u64>,
    /// Watches opened under an older number end.
    watches: watch::Sender<u64>,
}

struct Target {
    resource: String,
    api_version: String,
    namespace: String,
    name: String,
    subresource: String,
    query: BTreeMap<String, String>,
}

impl FakeApi {
    pub fn new() -> Self {
        let state = State { revision: 100, compacted: 100, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), revision: watch::Sender::new(100), watches: watch::Sender::new(0) }
    }

    pub fn client(&self) -> Client {
        Client::new(Env::os(), self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next request with this method meets this fault.
    pub fn fail_next(&self, method: Method, fault: Fault) {
        self.lock().faults.push((method, fault));
    }

    /// All requests meet this fault, until told otherwise.
    pub fn fail_all(&self, fault: Option<Fault>) {
        self.lock().all = fault;
    }

    /// Ends all watches.
    pub fn break_watches(&self) {
        self.watches.send_modify(|n| *n += 1);
    }

    /// Forgets history: watches from before get 410.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.compacted = state.revision;
        state.log.clear();
    }

    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Writes that took effect, as `METHOD path`.
    pub fn writes(&self) -> Vec<String> {
        self.lock().writes.clone()
    }

    /// The queries of lists.
    pub fn lists(&self) -> Vec<String> {
        self.lock().lists.clone()
    }

    /// An object, by the plural name of its resource.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(resource)?.get(&format!("{namespace}/{name}")).cloned()
    }

    pub fn all(&self, resource: &str) -> Vec<Value> {
        self.lock().objects.get(resource).into_iter().flat_map(|o| o.values().cloned()).collect()
    }

    /// Puts an object past the API, e.g. `put("pods", json!(...))`.
    pub fn put(&self, resource: &str, mut object: Value) -> Value {
        let mut state = self.lock();
        let key = format!("{}/{}", meta::namespace(&object), meta::name(&object));
        let old = state.objects.get(resource).and_then(|o| o.get(&key)).cloned();
        if meta::uid(&object).is_empty() {
            state.uids += 1;
            let uid = old.as_ref().map_or(format!("uid-{}", state.uids), |o| meta::uid(o).to_owned());
            meta::set_uid(&mut object, &uid);
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        let object = state.store(resource, kind, object);
        drop(state);
        self.announce();
        object
    }

    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let mut state = self.lock();
        if let Some(object) = state.objects.get_mut(resource).and_then(|o| o.remove(&format!("{namespace}/{name}"))) {
            state.store(resource, "DELETED", object);
        }
        drop(state);
        self.announce();
    }

    fn announce(&self) {
        let revision = self.lock().revision;
        self.revision.send_replace(revision);
    }

    fn act(&self, method: &Method, target: &Target, body: &Value) -> ApiResult<Value> {
        let mut state = self.lock();
        if *method != Method::GET {
            for (method, target, body) in std::mem::take(&mut state.stuck) {
                // Nobody waits for the answer.
                let _ = state.act_and_note(&method, &target, &body);
            }
        }
        let answer = state.act_and_note(method, target, body);
        drop(state);
        self.announce();
        answer
    }

    fn watch(&self, target: &Target) -> ApiResult<Body> {
        let from: u64 = target.query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        if from < self.lock().compacted {
            return Err(ApiStatus::expired(format!("too old resource version: {from}")));
        }
        let selection = Selection::new(target)?;
        let (state, resource) = (self.state.clone(), target.resource.clone());
        let (mut revision, mut ended) = (self.revision.subscribe(), self.watches.subscribe());
        let api_version = target.api_version.clone();
        let lines = async_stream::stream! {
            let mut seen = from;
            loop {
                let Some(changes) = state.lock().unwrap().changes(&resource, &mut seen) else {
                    let status = ApiStatus::expired(format!("too old resource version: {seen}")).to_value();
                    yield Ok::<_, BoxError>(line("ERROR", &status));
                    return;
                };
                for change in changes {
                    let now = selection.selects(&change.object) && change.kind != "DELETED";
                    let before = change.previous.as_ref().is_some_and(|p| selection.selects(p));
                    match (before, now) {
                        (false, true) => yield Ok(line("ADDED", &change.object)),
                        (true, true) => yield Ok(line("MODIFIED", &change.object)),
                        (true, false) => yield Ok(line("DELETED", &change.object)),
                        (false, false) => {}
                    }
                }
                let bookmark = json!({"kind": "Bookmark", "apiVersion": api_version,
                    "metadata": {"resourceVersion": seen.to_string()}});
                yield Ok(line("BOOKMARK", &bookmark));
                tokio::select! {
                    biased;
                    _ = ended.changed() => return,
                    _ = revision.changed() => {}
                    () = tokio::time::sleep(std::time::Duration::from_secs(60)) => {}
                }
            }
        };
        Ok(BodyExt::boxed_unsync(StreamBody::new(lines)))
    }
}

fn line(kind: &str, object: &Value) -> Frame<Bytes> {
    Frame::data(format!("{}\n", json!({"type": kind, "object": object})).into())
}

struct Selection {
    namespace: String,
    labels: LabelSelector,
    fields: Vec<(String, String)>,
}

impl Selection {
    fn new(target: &Target) -> ApiResult<Self> {
        let text = |name: &str| target.query.get(name).cloned().unwrap_or_default();
        let fields = text("fieldSelector");
        let fields = fields.split(',').filter_map(|f| f.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
        Ok(Self { namespace: target.namespace.clone(), labels: LabelSelector::parse(&text("labelSelector"))?, fields })
    }

    fn selects(&self, object: &Value) -> bool {
        let in_namespace = self.namespace.is_empty() || meta::namespace(object) == self.namespace;
        let field = |path: &str| object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str);
        in_namespace
            && self.labels.matches_object(object)
            && self.fields.iter().all(|(path, value)| field(path).unwrap_or_default() == value)
    }
}

impl State {
    /// The changes of a resource after `seen`, which moves on; `None` if they are compacted.
    fn changes(&self, resource: &str, seen: &mut u64) -> Option<Vec<Change>> {
        if *seen < self.compacted && self.revision > *seen {
            return None;
        }
        let fresh = self.log.iter().filter(|c| c.revision > *seen && c.resource == resource).cloned().collect();
        *seen = self.revision;
        Some(fresh)
    }

    fn store(&mut self, resource: &str, kind: &'static str, mut object: Value) -> Value {
        self.revision += 1;
        meta::set_resource_version(&mut object, &self.revision.to_string());
        let key = format!("{}/{}", meta::namespace(&object), meta::name(&object));
        let objects = self.objects.entry(resource.to_owned()).or_default();
        let previous = if kind == "DELETED" { Some(object.clone()) } else { objects.insert(key, object.clone()) };
        let change =
            Change { revision: self.revision, kind, resource: resource.into(), object: object.clone(), previous };
        self.log.push(change);
        object
    }

    fn act_and_note(&mut self, method: &Method, target: &Target, body: &Value) -> ApiResult<Value> {
        let answer = self.act(method, target, body);
        if answer.is_ok() && *method != Method::GET {
            let path =
                format!("{method} {}/{}/{}/{}", target.resource, target.namespace, target.name, target.subresource);
            self.writes.push(path.trim_end_matches('/').to_owned());
        }
        answer
    }

    fn act(&mut self, method: &Method, target: &Target, body: &Value) -> ApiResult<Value> {
        let group = target.api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
        let gr = GroupResource { group, resource: target.resource.clone() };
        let key = format!("{}/{}", target.namespace, target.name);
        if *method == Method::GET && target.name.is_empty() {
            return self.list(target);
        }
        if *method == Method::POST && target.name.is_empty() {
            return self.create(target, &gr, body.clone());
        }
        let current = self.objects.get(&target.resource).and_then(|o| o.get(&key)).cloned();
        let current = current.ok_or_else(|| ApiStatus::not_found(&gr, &target.name))?;
        match (method.as_str(), target.subresource.as_str()) {
            ("GET", _) => Ok(current),
            ("POST", "binding") => {
                let uid = body["metadata"]["uid"].as_str().unwrap_or_default();
                if !uid.is_empty() && uid != meta::uid(&current) {
                    return Err(ApiStatus::conflict(&gr, &target.name, "the uid is another"));
                }
                if current["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty()) {
                    return Err(ApiStatus::conflict(&gr, &target.name, "is already assigned to a node"));
                }
                let mut bound = current;
                bound["spec"]["nodeName"] = body["target"]["name"].clone();
                self.store(&target.resource, "MODIFIED", bound);
                Ok(json!({"kind": "Status", "status": "Success"}))
            }
            ("PUT", subresource) => {
                let wanted = meta::resource_version(body);
                if !wanted.is_empty() && wanted != meta::resource_version(&current) {
                    return Err(ApiStatus::conflict_modified(&gr, &target.name));
                }
                let mut updated = body.clone();
                if subresource == "status" {
                    updated = current.clone();
                    updated["status"] = body["status"].clone();
                }
                meta::set_uid(&mut updated, meta::uid(&current));
                Ok(self.store(&target.resource, "MODIFIED", updated))
            }
            ("PATCH", _) => {
                let mut patched = current;
                merge(&mut patched, body);
                Ok(self.store(&target.resource, "MODIFIED", patched))
            }
            ("DELETE", _) => {
                let uid = body["preconditions"]["uid"].as_str().unwrap_or_default();
                if !uid.is_empty() && uid != meta::uid(&current) {
                    return Err(ApiStatus::conflict(&gr, &target.name, "the uid is another"));
                }
                self.objects.entry(target.resource.clone()).or_default().remove(&key);
                self.store(&target.resource, "DELETED", current);
                Ok(json!({"kind": "Status", "status": "Success"}))
            }
            _ => Err(ApiStatus::method_not_supported(&gr, method.as_str())),
        }
    }

    fn create(&mut self, target: &Target, gr: &GroupResource, mut object: Value) -> ApiResult<Value> {
        self.uids += 1;
        let number = self.uids;
        if meta::name(&object).is_empty() {
            let name = format!("{}{number:05}", meta::generate_name(&object));
            meta::set_name(&mut object, &name);
        }
        if !target.namespace.is_empty() {
            meta::set_namespace(&mut object, &target.namespace);
        }
        let key = format!("{}/{}", target.namespace, meta::name(&object));
        if self.objects.get(&target.resource).is_some_and(|o| o.contains_key(&key)) {
            return Err(ApiStatus::already_exists(gr, meta::name(&object)));
        }
        meta::set_uid(&mut object, &format!("uid-{number}"));
        Ok(self.store(&target.resource, "ADDED", object))
    }

    fn list(&mut self, target: &Target) -> ApiResult<Value> {
        let query: Vec<String> = target.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        self.lists.push(format!("{}?{}", target.resource, query.join("&")));
        let selection = Selection::new(target)?;
        let after = target.query.get("continue").cloned().unwrap_or_default();
        let limit = target.query.get("limit").and_then(|l| l.parse().ok()).unwrap_or(usize::MAX);
        let objects = self.objects.get(&target.resource);
        let selected = objects.into_iter().flatten().filter(|(_, object)| selection.selects(object));
        let mut page: Vec<_> = selected.filter(|(key, _)| **key > after).take(limit.saturating_add(1)).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let last = page.last().filter(|_| more).map(|(key, _)| (*key).clone()).unwrap_or_default();
        let items: Vec<Value> = page.into_iter().map(|(_, object)| object.clone()).collect();
        Ok(json!({"kind": "List", "apiVersion": target.api_version, "items": items,
            "metadata": {"resourceVersion": self.revision.to_string(), "continue": last}}))
    }
}

fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (key, value) in fields {
                if value.is_null() {
                    target.as_object_mut().unwrap().remove(key);
                } else {
                    merge(&mut target[key.as_str()], value);
                }
            }
        }
        other => *target = other.clone(),
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' && tail.len() >= 2 {
            let hex = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn target(uri: &http::Uri) -> Target {
    let mut parts: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
    let api_version = match parts.remove(0) {
        "api" => parts.remove(0).to_owned(),
        _ => format!("{}/{}", parts.remove(0), parts.remove(0)),
    };
    let mut namespace = String::new();
    if parts.len() > 2 && parts[0] == "namespaces" {
        namespace = parts[1].to_owned();
        parts.drain(..2);
    }
    let part = |i: usize| parts.get(i).map(|p| unescape(p)).unwrap_or_default();
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(k, v)| (k.to_owned(), unescape(v))).collect();
    Target { resource: part(0), api_version, namespace, name: part(1), subresource: part(2), query }
}

fn answer(code: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

#[async_trait]
impl Transport for FakeApi {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let fault = {
            let mut state = self.lock();
            let next = state.faults.iter().position(|(method, _)| method == request.method());
            next.map(|i| state.faults.remove(i).1).or(state.all)
        };
        match fault {
            Some(Fault::Refuse) => return Err(TransportError::NotSent("refused".into())),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Unavailable) => {
                return Ok(answer(503, &ApiStatus::service_unavailable("quorum is lost").to_value()));
            }
            Some(Fault::Stuck) => {
                let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
                self.lock().stuck.push((request.method().clone(), target(request.uri()), body));
                return Ok(answer(504, &ApiStatus::timeout("the store did not answer", 1).to_value()));
            }
            Some(Fault::LoseAnswer) | None => {}
        }
        let target = target(request.uri());
        let answered = if target.query.get("watch").is_some_and(|w| w == "true") {
            self.watch(&target).map(Response::new)
        } else {
            let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
            self.act(request.method(), &target, &body).map(|value| answer(200, &value))
        };
        if fault == Some(Fault::LoseAnswer) {
            return Err(TransportError::Unanswered("reset".into()));
        }
        Ok(answered.unwrap_or_else(|status| answer(status.code, &status.to_value())))
    }
}
