use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::Response;
use keelstone_machinery::{status::ApiResult, ResourceInfo};
use keelstone_registry::Resource;
use keelstone_storage::{StoredObject, WatchEvent};
use serde_json::{json, Value};

use super::{read::list_params, Call};
use crate::{
    body::{self, Body},
    constants::{WATCH_TIMEOUT_MAX, WATCH_TIMEOUT_MIN},
    negotiate::Form,
    respond,
    table::{self, IncludeObject},
};

impl Call<'_> {
    pub(super) async fn watch(&self) -> ApiResult<Response<Body>> {
        let (_, form) = self.context.negotiate(true)?;
        let include = IncludeObject::parse(self.context.query.get("includeObject"))?;
        let mut params = list_params(self.context)?;
        if params.timeout.is_none() {
            params.timeout = Some(self.random_timeout());
        }
        if !self.name().is_empty() && params.field_selector.is_empty() {
            // The deprecated path /watch/.../name.
            params.field_selector = format!("metadata.name={}", self.name());
        }
        let events = match self.old_revision(&params.resource_version).filter(|_| params.send_initial_events.is_none())
        {
            Some(revision) => self.watch_old(&params, revision).await?,
            None => self.store.watch(self.list_namespace(), &params).await?,
        };
        let events = self.watched(events, &params);
        let mut encoder = Encoder {
            resource: self.store.resource(),
            form,
            include,
            columns_sent: false,
            env: self.state.env.clone(),
        };
        let mut stop = self.state.stop.subscribe();
        let stopped = async move {
            // An error means that the server is gone, which ends the watch as well.
            let _ = stop.wait_for(|stopping| *stopping).await;
        };
        let pieces = events.map(move |event| encoder.encode(&event)).take_until(Box::pin(stopped));
        Ok(respond::json_lines(body::streaming(pieces)))
    }

    /// Watches without a timeout end at different times, so that clients do not come back all at once.
    fn random_timeout(&self) -> Duration {
        let spread = (WATCH_TIMEOUT_MAX - WATCH_TIMEOUT_MIN).as_secs();
        WATCH_TIMEOUT_MIN + Duration::from_secs(self.state.env.random().below(spread + 1))
    }
}

/// Turns events into lines of JSON.
struct Encoder {
    resource: &'static dyn Resource,
    form: Form,
    include: IncludeObject,
    /// Only a Table's first event carries the columns.
    columns_sent: bool,
    env: keelstone_env::Env,
}

impl Encoder {
    fn encode(&mut self, event: &WatchEvent) -> Bytes {
        match event {
            WatchEvent::Added(object) => self.object("ADDED", object),
            WatchEvent::Modified(object) => self.object("MODIFIED", object),
            WatchEvent::Deleted(object) => self.object("DELETED", object),
            WatchEvent::Bookmark { revision, initial_events_end } => {
                let bookmark = self.bookmark(self.resource.info(), *revision, *initial_events_end);
                line("BOOKMARK", &respond::to_json(&bookmark, false))
            }
            WatchEvent::Error(status) => line("ERROR", &respond::to_json(&status.to_value(), false)),
        }
    }

    fn object(&mut self, kind: &str, object: &StoredObject) -> Bytes {
        match self.form {
            Form::Object => line(kind, object.json()),
            Form::Partial => line(kind, &respond::to_json(&table::partial(object.value()), false)),
            Form::Table => {
                let metadata = json!({"resourceVersion": object.revision().to_string()});
                let rows = std::iter::once(object.value());
                let first = !std::mem::replace(&mut self.columns_sent, true);
                let now = self.env.unix_time_s();
                let table = table::table(self.resource, rows, metadata, self.include, first, now);
                line(kind, &respond::to_json(&table, false))
            }
        }
    }

    fn bookmark(&mut self, info: &ResourceInfo, revision: i64, initial_events_end: bool) -> Value {
        let object = table::bookmark_object(info, revision, initial_events_end);
        match self.form {
            Form::Object => object,
            Form::Partial => table::partial(&object),
            Form::Table => {
                let first = !std::mem::replace(&mut self.columns_sent, true);
                let metadata = json!({"resourceVersion": revision.to_string()});
                let none = std::iter::empty();
                let mut table = table::table(self.resource, none, metadata, self.include, first, 0);
                // Clients read the revision and the annotation from a row that holds the bookmark itself.
                let mut row = json!({"cells": vec![Value::Null; self.resource.columns().len()]});
                row["object"] = table::partial(&object);
                table["rows"] = json!([row]);
                table
            }
        }
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}
