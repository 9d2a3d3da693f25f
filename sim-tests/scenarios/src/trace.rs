//! What happened in a run, for people: faults, events of INFO and above with their host, and what clients did.

use std::{
    fmt::Write as _,
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::{json, Value};
use tracing::{field::Visit, span, Event, Subscriber};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// The page around the data.
const PAGE: &str = include_str!("trace.html");

/// A trace in the making. Clones share it.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<Value>>>);

impl Trace {
    fn push(&self, host: &str, kind: &str, text: &str) {
        let at_ms = turmoil::sim_elapsed().unwrap_or_default().as_secs_f64() * 1_000.0;
        let mut line = json!({"at_ms": at_ms, "host": host, "kind": kind, "text": text});
        if let Some(revision) = revision(text) {
            line["revision"] = revision.into();
        }
        self.0.lock().expect("no panic while locked").push(line);
    }

    /// What a client did or was told.
    pub fn client(&self, text: &str) {
        self.push("client", "client", text);
    }

    /// Writes a page if the name ends in `.html`, else JSON lines.
    ///
    /// # Errors
    /// If the file cannot be written.
    #[allow(clippy::disallowed_methods, reason = "the trace lies outside of the simulated world")]
    pub fn write(&self, path: &Path, title: &str) -> io::Result<()> {
        let lines = self.0.lock().expect("no panic while locked");
        if path.extension().is_some_and(|extension| extension == "html") {
            let data = Value::from(lines.clone()).to_string().replace("</", "<\\/");
            return std::fs::write(path, PAGE.replace("{{title}}", title).replace("{{data}}", &data));
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(path, text)
    }
}

/// The last revision that a text names.
fn revision(text: &str) -> Option<i64> {
    let rest = text.rsplit("revision: ").next().filter(|rest| rest.len() < text.len())?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The name in turmoil's span around a host.
struct HostName(String);

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
    name: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "name" {
            value.clone_into(&mut self.name);
        }
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => drop(write!(self.message, "{value:?}")),
            name => drop(write!(self.others, " {name}={value:?}")),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Trace {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "node" {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(HostName(fields.name));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let scope = context.event_scope(event).into_iter().flatten();
        let host = scope.into_iter().find_map(|span| Some(span.extensions().get::<HostName>()?.0.clone()));
        let target = event.metadata().target();
        let kind =
            if target.starts_with("keelstone_sim::faults") { "fault" } else { event.metadata().level().as_str() };
        self.push(&host.unwrap_or_default(), kind, &format!("{target}: {}{}", fields.message, fields.others));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_found_in_a_text() {
        assert_eq!(revision("Written { revision: 12 }"), Some(12));
        assert_eq!(revision("mod_revision: 3, revision: 4 }"), Some(4));
        assert_eq!(revision("nothing"), None);
    }
}
