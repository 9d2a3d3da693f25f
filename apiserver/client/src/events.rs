use std::time::Duration;

use indexmap::IndexMap;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
    Resource,
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    client::Client,
    constants::{EVENT_QUEUE_MAX, EVENT_SERIES_MAX, EVENT_SERIES_S_MAX},
    error::ClientResult,
    object::{DynamicObject, Object},
    options::{Patch, PatchOptions},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    Normal,
    Warning,
}

/// The object that an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// A part of the object, such as `spec.containers{app}`; may be empty.
    pub field_path: String,
}

impl ObjectRef {
    pub fn of<T: Object + Resource>(object: &T) -> Self {
        Self::named(T::API_VERSION, T::KIND, object)
    }

    pub fn of_dynamic(object: &DynamicObject) -> Self {
        let text = |field: &str| object.0[field].as_str().unwrap_or_default().to_owned();
        Self::named(&text("apiVersion"), &text("kind"), object)
    }

    fn named(api_version: &str, kind: &str, object: &impl Object) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            resource_version: object.resource_version().to_owned(),
            field_path: String::new(),
        }
    }

    pub fn field_path(mut self, path: impl Into<String>) -> Self {
        self.field_path = path.into();
        self
    }

    fn reference(&self) -> ObjectReference {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ObjectReference {
            api_version: some(&self.api_version),
            kind: some(&self.kind),
            namespace: some(&self.namespace),
            name: some(&self.name),
            uid: some(&self.uid),
            resource_version: some(&self.resource_version),
            field_path: some(&self.field_path),
        }
    }
}

/// What makes two events the same, so that the second only raises the count of the first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SeriesKey {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    field_path: String,
    warning: bool,
    reason: String,
    message: String,
}

struct Series {
    /// Of the Event object.
    name: String,
    count: i32,
    last: Instant,
}

struct Report {
    object: ObjectRef,
    kind: EventType,
    reason: String,
    message: String,
    at: Time,
}

/// Writes `core/v1` Events, best effort: never waits, and drops events when the API server does not keep up.
/// Repeated events raise the count of the first. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Report>,
    client: Client,
}

impl EventRecorder {
    /// `component` is the reporting controller (`deployment-controller`), `host` the node it runs on, or empty.
    /// A background task lives as long as a clone of the recorder.
    pub fn new(client: &Client, component: &str, host: &str) -> Self {
        let (queue, reports) = mpsc::channel(EVENT_QUEUE_MAX);
        let client = client.unguarded();
        let writer = Writer {
            client: client.clone(),
            component: component.to_owned(),
            host: host.to_owned(),
            series: IndexMap::new(),
        };
        client.env().spawn(writer.run(reports));
        Self { queue, client }
    }

    /// Reports an event about `object`; the message may be cut to what the API takes.
    pub fn event(&self, object: &ObjectRef, kind: EventType, reason: &str, message: impl Into<String>) {
        let since = self.client.env().wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let nanos = i128::try_from(since.as_nanos()).unwrap_or(0);
        let at = Time(Timestamp::from_nanosecond(nanos).unwrap_or_default());
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let end = (0..=MESSAGE_BYTES_MAX).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(end);
        }
        let report = Report { object: object.clone(), kind, reason: reason.to_owned(), message, at };
        if self.queue.try_send(report).is_err() {
            tracing::debug!(reason, "an event was dropped: too many are waiting");
        }
    }

    pub fn normal<T: Object + Resource>(&self, object: &T, reason: &str, message: impl Into<String>) {
        self.event(&ObjectRef::of(object), EventType::Normal, reason, message);
    }

    pub fn warning<T: Object + Resource>(&self, object: &T, reason: &str, message: impl Into<String>) {
        self.event(&ObjectRef::of(object), EventType::Warning, reason, message);
    }
}

/// The API's limit for an event's message (core/v1 validation).
const MESSAGE_BYTES_MAX: usize = 1_024;
/// Tries to write one event.
const WRITE_TRIES_MAX: u32 = 3;
const WRITE_PAUSE_MS: u64 = 1_000;

struct Writer {
    client: Client,
    component: String,
    host: String,
    /// In the order of last use.
    series: IndexMap<SeriesKey, Series>,
}

impl Writer {
    async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        while let Some(report) = reports.recv().await {
            self.write(&report).await;
        }
    }

    async fn write(&mut self, report: &Report) {
        for attempt in 1..=WRITE_TRIES_MAX {
            match self.try_write(report).await {
                Ok(()) => return,
                // The namespace is going away, or the event is not acceptable: trying again is of no use.
                Err(error) if matches!(error.code(), 400..=428 | 430..=499) => {
                    tracing::debug!(reason = %report.reason, %error, "an event was refused");
                    return;
                }
                Err(error) if attempt == WRITE_TRIES_MAX => {
                    tracing::debug!(reason = %report.reason, %error, "an event was given up");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(WRITE_PAUSE_MS)).await,
            }
        }
    }

    async fn try_write(&mut self, report: &Report) -> ClientResult<()> {
        let key = SeriesKey {
            kind: report.object.kind.clone(),
            namespace: report.object.namespace.clone(),
            name: report.object.name.clone(),
            uid: report.object.uid.clone(),
            field_path: report.object.field_path.clone(),
            warning: report.kind == EventType::Warning,
            reason: report.reason.clone(),
            message: report.message.clone(),
        };
        // Events about cluster-scoped objects live in `default`.
        let namespace = if report.object.namespace.is_empty() { "default" } else { &report.object.namespace };
        let api = self.client.namespaced::<Event>(namespace);
        let now = self.client.env().now();
        let fresh = Duration::from_secs(EVENT_SERIES_S_MAX);
        if let Some(mut series) = self.series.shift_remove(&key).filter(|s| now - s.last < fresh) {
            let count = series.count.saturating_add(1);
            let patch = Patch::Merge(json!({"count": count, "lastTimestamp": report.at, "message": report.message}));
            match api.patch(&series.name, &patch, &PatchOptions::default()).await {
                Ok(_) => {
                    series.count = count;
                    series.last = now;
                    self.remember(key, series);
                    return Ok(());
                }
                // It has expired on the server: start anew.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    self.remember(key, series);
                    return Err(error);
                }
            }
        }
        let name = format!("{}.{:x}", report.object.name, report.at.0.as_nanosecond());
        match api.create(&self.event(report, namespace, &name)).await {
            Ok(_) => {}
            // An earlier try whose outcome was unknown.
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        self.remember(key, Series { name, count: 1, last: now });
        Ok(())
    }

    fn remember(&mut self, key: SeriesKey, series: Series) {
        self.series.insert(key, series);
        if self.series.len() > EVENT_SERIES_MAX {
            self.series.shift_remove_index(0);
        }
    }

    fn event(&self, report: &Report, namespace: &str, name: &str) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: report.object.reference(),
            reason: Some(report.reason.clone()),
            message: Some(report.message.clone()),
            type_: Some(format!("{:?}", report.kind)),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: (!self.host.is_empty()).then(|| self.host.clone()),
            }),
            first_timestamp: Some(report.at.clone()),
            last_timestamp: Some(report.at.clone()),
            count: Some(1),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        }
    }
}
