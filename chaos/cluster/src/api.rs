//! The API of each master, for clients with addresses of their own.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::Method;
use keelstone_chaos_bed::constants::client_address;
use keelstone_chaos_store::{workloads::Actor, Class};
use keelstone_checkers::Outcome;
use serde_json::Value;

use crate::{
    constants::CALL_MAX,
    http_client::{Connection, Endpoint, Sent},
};

/// The way to each master, and the connection that each client keeps. Empty where histories are only judged.
#[derive(Default)]
pub struct Api {
    masters: BTreeMap<String, Endpoint>,
    kept: Mutex<BTreeMap<u32, Connection>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "API of {:?}", self.masters.keys())
    }
}

impl Api {
    pub fn new(masters: BTreeMap<String, Endpoint>) -> Self {
        Self { masters, kept: Mutex::default() }
    }

    pub fn masters(&self) -> Vec<String> {
        self.masters.keys().cloned().collect()
    }

    /// A master for client number `client`.
    pub fn endpoint(&self, master: &str, client: u32) -> Option<Endpoint> {
        Some(self.masters.get(master)?.from(client_address(client)))
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u32, Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of an actor to its master, on the connection that it keeps.
    pub async fn send(&self, actor: &Actor, method: Method, path: &str, body: Option<&Value>) -> Sent {
        self.send_to(&actor.host, actor.number, method, path, body).await
    }

    /// One call of a client to a master.
    pub async fn send_to(&self, master: &str, client: u32, method: Method, path: &str, body: Option<&Value>) -> Sent {
        let kept = self.kept().remove(&client).filter(|c| c.leads_to(self.masters.get(master)));
        let Some(mut connection) = kept.or_else(|| Some(Connection::new(&self.endpoint(master, client)?))) else {
            return Sent::Unsent(format!("no master {master}"));
        };
        let sent = connection.send(method, path, body, CALL_MAX).await;
        self.kept().insert(client, connection);
        sent
    }

    /// Asks one master after the other until one answers; its answer, if it is a success.
    ///
    /// # Errors
    /// What the last one said.
    pub async fn ask(&self, client: u32, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut said = "no masters".to_owned();
        for master in self.masters() {
            match self.send_to(&master, client, method.clone(), path, body).await {
                Sent::Answer { code: 200..=299, body } => return Ok(body),
                Sent::Answer { code: code @ (400..=499), body } if code != 429 => {
                    return Err(format!("{code} {}", body["message"].as_str().unwrap_or_default()));
                }
                other => said = other.success().err().unwrap_or_default(),
            }
        }
        Err(said)
    }
}

/// How a call that may change something ended.
pub fn class(sent: &Sent) -> Class {
    match sent {
        Sent::Answer { code: 200..=299, .. } => Class::Ok,
        Sent::Answer { code: 400..=499, .. } | Sent::Unsent(_) => Class::Failed,
        Sent::Answer { .. } | Sent::Unanswered(_) => Class::Unknown,
    }
}

/// An object's or a list's resourceVersion, which is the store's revision; 0 if it tells none.
pub fn revision(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// What a list of the one object says of it, and the object's revision, 0 if there is none. A list, because that tells the
/// revision that it was read at.
pub fn read_by_list(list: &Value) -> (Outcome, i64) {
    let item = &list["items"][0];
    let mod_revision = if item.is_null() { 0 } else { revision(item) };
    let value = item["data"]["value"].as_str().map(str::to_owned);
    (Outcome::Read { value, mod_revision, revision: revision(list) }, mod_revision)
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// Whether a condition of the object is `True`.
pub fn is(object: &Value, condition: &str) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == condition && c["status"] == "True")
}
