use std::{borrow::Cow, time::Duration};

use async_stream::stream;
use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use http_body_util::BodyExt;
use keelstone_machinery::status::ApiStatus;
use serde::Deserialize;
use serde_json::{value::RawValue, Value};
use tokio::time::timeout;

use crate::{
    constants::{WATCH_IDLE_MS_MAX, WATCH_LINE_BYTES_MAX},
    error::{ClientError, ClientResult},
    object::Object,
    transport::Body,
};

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent<T> {
    Added(T),
    Modified(T),
    Deleted(T),
    /// Everything up to this version was delivered.
    Bookmark {
        resource_version: String,
        /// The initial events (of a watch that asked for them) are complete.
        initial_events_end: bool,
    },
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// The events in a body of JSON lines. Ends with the body, and after the first error; silence longer than
/// [`WATCH_IDLE_MS_MAX`] is an error.
pub(crate) fn events<T: Object>(mut body: Body) -> impl Stream<Item = ClientResult<WatchEvent<T>>> + Send {
    stream! {
        let mut buffer = BytesMut::new();
        let mut scanned = 0;
        loop {
            while let Some(end) = buffer[scanned..].iter().position(|b| *b == b'\n') {
                let line = buffer.split_to(scanned + end).freeze();
                buffer.advance(1);
                scanned = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let event = decode_line(&line);
                let failed = event.is_err();
                yield event;
                if failed {
                    return;
                }
            }
            scanned = buffer.len();
            if buffer.len() > WATCH_LINE_BYTES_MAX {
                yield Err(ClientError::Decode("a watch event is too large".into()));
                return;
            }
            match next_piece(&mut body).await {
                Ok(Some(piece)) => buffer.extend_from_slice(&piece),
                Ok(None) => return,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            }
        }
    }
}

async fn next_piece(body: &mut Body) -> ClientResult<Option<Bytes>> {
    loop {
        match timeout(Duration::from_millis(WATCH_IDLE_MS_MAX), body.frame()).await {
            Err(_) => return Err(ClientError::Transport("the watch has been silent for too long".into())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(ClientError::Transport(format!("the watch broke off: {error}"))),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn decode_line<T: Object>(line: &[u8]) -> ClientResult<WatchEvent<T>> {
    fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> ClientResult<T> {
        serde_json::from_str(raw.get()).map_err(|e| ClientError::Decode(e.to_string()))
    }
    let line: Line = serde_json::from_slice(line).map_err(|e| ClientError::Decode(e.to_string()))?;
    match &*line.kind {
        "ADDED" => object(line.object).map(WatchEvent::Added),
        "MODIFIED" => object(line.object).map(WatchEvent::Modified),
        "DELETED" => object(line.object).map(WatchEvent::Deleted),
        "BOOKMARK" => {
            let meta = &object::<Value>(line.object)?["metadata"];
            Ok(WatchEvent::Bookmark {
                resource_version: meta["resourceVersion"].as_str().unwrap_or_default().to_owned(),
                initial_events_end: meta["annotations"]["k8s.io/initial-events-end"] == "true",
            })
        }
        "ERROR" => {
            let value = object::<Value>(line.object)?;
            let status = ApiStatus::from_value(&value);
            Err(status.map_or_else(|| ClientError::Decode(value.to_string()), ClientError::Status))
        }
        other => Err(ClientError::Decode(format!("unknown type of watch event {other:?}"))),
    }
}
