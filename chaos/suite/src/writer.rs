//! A client that writes a ConfigMap every 20 ms through the printed address, and remembers what was acknowledged.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    constants::WRITE_EVERY,
    http_client::{Connection, Endpoint, Sent},
};

/// A write that is not answered by then is given up; the next one goes out on a new connection.
const WRITE_MAX: Duration = Duration::from_secs(2);
/// Each write goes to one of so many ConfigMaps.
const OBJECTS: u64 = 50;

/// What the writer knows.
#[derive(Clone, Default)]
pub struct Record {
    /// When each acknowledged write was sent and answered.
    pub acknowledged: Vec<(Instant, Instant)>,
    /// By object: the number that was last acknowledged.
    pub last: std::collections::BTreeMap<String, u64>,
    pub failed: u64,
    /// When each write that failed, or was not answered in time, was given up.
    pub refused: Vec<Instant>,
}

impl Record {
    /// The longest time without an acknowledgement since `from`, up to now.
    pub fn longest_gap(&self, from: Instant) -> Duration {
        let mut last = from;
        let mut longest = Duration::ZERO;
        let ends = self.acknowledged.iter().map(|(_, end)| *end).filter(|end| *end >= from);
        for end in ends.chain([Instant::now()]) {
            longest = longest.max(end.saturating_duration_since(last));
            last = end;
        }
        longest
    }

    /// Whether a write that was SENT after `at` has been acknowledged.
    pub fn answered_since(&self, at: Instant) -> bool {
        self.acknowledged.iter().rev().any(|(sent, _)| *sent > at)
    }
}

/// A running writer; it ends when this is dropped.
pub struct Writer {
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
    namespace: String,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writer {
    /// Starts writing into `namespace`.
    pub fn start(endpoint: &Endpoint, namespace: &str) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let task = tokio::spawn(write(endpoint.clone(), namespace.to_owned(), record.clone()));
        Self { record, task, namespace: namespace.to_owned() }
    }

    pub fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops, and compares what was acknowledged with what is there. An object may hold a later number than
    /// the acknowledged one (its answer was lost), never an earlier one.
    pub async fn stop_and_verify(self, endpoint: &Endpoint) -> Result<Record, String> {
        self.task.abort();
        let record = self.record();
        let mut connection = Connection::new(endpoint);
        let path = format!("/api/v1/namespaces/{}/configmaps", self.namespace);
        let list = connection.get(&path, Duration::from_secs(10)).await.success()?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        for (name, number) in &record.last {
            let item = items.iter().find(|i| i["metadata"]["name"] == name.as_str());
            let there = item.and_then(|i| i["data"]["number"].as_str()?.parse::<u64>().ok());
            if there.is_none_or(|there| there < *number) {
                return Err(format!("LOST: {name} was acknowledged with {number} and now has {there:?}"));
            }
        }
        Ok(record)
    }
}

async fn write(endpoint: Endpoint, namespace: String, record: Arc<Mutex<Record>>) {
    let mut connection = Connection::new(&endpoint);
    let mut ticks = tokio::time::interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut created = std::collections::BTreeSet::new();
    let mut series = 0_u64;
    for number in 1_u64.. {
        ticks.tick().await;
        let name = format!("written-{series}-{:02}", number % OBJECTS);
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name}, "data": {"number": number.to_string()},
        });
        let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
        let (method, path) = if created.contains(&name) {
            (Method::PUT, format!("{collection}/{name}"))
        } else {
            (Method::POST, collection)
        };
        let sent = Instant::now();
        let answer = connection.send(method, &path, Some(&object), WRITE_MAX).await;
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Sent::Answer { code: 200..=299, .. } => {
                created.insert(name.clone());
                record.acknowledged.push((sent, Instant::now()));
                record.last.insert(name, number);
            }
            Sent::Unsent(_) => {
                record.failed += 1;
                record.refused.push(Instant::now());
            }
            // It may still be carried out, after later ones: its object is left alone from now on.
            _ => {
                series += 1;
                record.failed += 1;
                record.refused.push(Instant::now());
            }
        }
    }
}
