//! Clients that read, write and compare-and-set ConfigMaps, and record every call.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex, PoisonError,
    },
    time::{Duration, Instant},
};

use http::Method;
use keelstone_chaos_cluster::{read_by_list, revision};
use keelstone_checkers::{Call, History, Operation, Outcome};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::http_client::{Connection, Endpoint, Sent};

const CLIENTS: u32 = 4;
const KEYS: u64 = 6;
/// The pause after each call.
const PAUSE: Duration = Duration::from_millis(40);
/// A call that takes longer has an unknown outcome.
const CALL_MAX: Duration = Duration::from_secs(5);

pub struct Registers {
    clients: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    operations: Arc<Mutex<Vec<Operation>>>,
}

/// One client: its connection, what it knows of each register, and its record.
struct Client {
    number: u32,
    connection: Connection,
    collection: String,
    clock: Arc<Instant>,
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl Registers {
    /// Starts the clients. `clock`'s start is time zero of the history.
    pub fn start(endpoint: &Endpoint, namespace: &str, clock: &Arc<Instant>) -> Self {
        let operations = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|number| {
            let client = Client {
                number,
                connection: Connection::new(endpoint),
                collection: format!("/api/v1/namespaces/{namespace}/configmaps"),
                clock: clock.clone(),
                operations: operations.clone(),
            };
            tokio::spawn(client.run(stop.clone()))
        });
        Self { clients: clients.collect(), stop, operations }
    }

    /// Lets every client end its call, and returns the history.
    pub async fn stop(self) -> History {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            let _ = client.await;
        }
        let mut operations = std::mem::take(&mut *self.operations.lock().unwrap_or_else(PoisonError::into_inner));
        operations.sort_by_key(|o| (o.start_us, o.end_us));
        History { operations }
    }
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        for turn in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            // Clients walk over the registers at different strides, so that they meet.
            let key = format!("r{}", (turn / 2 + u64::from(self.number) * 2) % KEYS);
            let mod_revision = self.read(&key).await;
            if let (Some(expected), true) = (mod_revision, turn % 2 == 0) {
                let value = format!("{}-{turn}", self.number);
                self.compare_and_set(&key, expected, value).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn record(&self, start_us: u64, call: Call, outcome: Outcome) {
        let operation = Operation { client: self.number, start_us, end_us: self.now_us(), call, outcome };
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    /// A consistent read: a list of the one object, because a list tells the revision that it was read at.
    /// Returns the object's revision, 0 if there is none.
    async fn read(&mut self, key: &str) -> Option<i64> {
        let path = format!("{}?fieldSelector=metadata.name%3D{key}", self.collection);
        let start_us = self.now_us();
        let sent = self.connection.get(&path, CALL_MAX).await;
        let (outcome, mod_revision) = match sent {
            Sent::Answer { code: 200, body } => {
                let (outcome, mod_revision) = read_by_list(&body);
                (outcome, Some(mod_revision))
            }
            Sent::Answer { code, body } => (Outcome::Failed { error: format!("{code} {}", body["message"]) }, None),
            Sent::Unsent(error) | Sent::Unanswered(error) => (Outcome::Failed { error }, None),
        };
        self.record(start_us, Call::Read { key: key.to_owned() }, outcome);
        mod_revision
    }

    async fn compare_and_set(&mut self, key: &str, expected: i64, value: String) {
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key}, "data": {"value": value},
        });
        let (method, path) = if expected == 0 {
            (Method::POST, self.collection.clone())
        } else {
            object["metadata"]["resourceVersion"] = expected.to_string().into();
            (Method::PUT, format!("{}/{key}", self.collection))
        };
        let start_us = self.now_us();
        let sent = self.connection.send(method, &path, Some(&object), CALL_MAX).await;
        let outcome = match sent {
            Sent::Answer { code: 200..=299, body } => Outcome::Written { revision: revision(&body) },
            // A conflict does not tell the revision.
            Sent::Answer { code: 409, .. } => Outcome::Refused { revision: 0 },
            Sent::Answer { code: code @ (400..=499), body } => {
                Outcome::Failed { error: format!("{code} {}", body["message"]) }
            }
            Sent::Unsent(error) => Outcome::Failed { error },
            Sent::Answer { code, body } => Outcome::Unknown { error: format!("{code} {}", body["message"]) },
            Sent::Unanswered(error) => Outcome::Unknown { error },
        };
        self.record(start_us, Call::CompareAndSet { key: key.to_owned(), expected, value }, outcome);
    }
}
