use std::fmt;

use time::{format_description::BorrowedFormatItem, macros::format_description, OffsetDateTime};
use tracing::{
    field::{Field, Visit},
    Event, Subscriber,
};
use tracing_subscriber::{
    fmt::{format::Writer, FmtContext, FormatEvent, FormatFields},
    registry::LookupSpan,
};

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Log lines in the form of etcd's: one JSON object each, with `level`, `ts`, `caller` and `msg` first.
pub struct ZapLines;

/// The fields of an event as members of a JSON object.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: serde_json::Value) {
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            let name = serde_json::Value::from(field.name());
            self.others.push_str(&format!(",{name}:{value}"));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

impl<S, N> FormatEvent<S, N> for ZapLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        let now = OffsetDateTime::now_utc().format(TIME).map_err(|_| fmt::Error)?;
        let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let caller = serde_json::Value::from(format!("{file}:{}", metadata.line().unwrap_or_default()));
        let message = serde_json::Value::from(fields.message);
        let others = fields.others;
        writeln!(line, r#"{{"level":"{level}","ts":"{now}","caller":{caller},"msg":{message}{others}}}"#)
    }
}
