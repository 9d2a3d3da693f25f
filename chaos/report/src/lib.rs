//! A run's report as one HTML file that needs nothing else: verdict, charts as inline SVG with the faults as bands, what
//! each fault cost, and a timeline of whatever was violated.
//!
//! Pure: [`page`] turns a history and its verdict into text.
#![allow(clippy::disallowed_methods)] // its test starts a browser

mod charts;
mod scale;
mod tables;
mod timeline;

use keelstone_chaos_store::{figures, record::Line, Verdict};
use serde::{Deserialize, Serialize};

/// What is said above all: the run's name and how to repeat it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// Such as `3 members of keelstone`.
    pub title: String,
    /// Such as `keelstone`.
    pub target: String,
    /// The command that makes the same run again.
    pub command: String,
}

/// A table of the run's own.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    pub title: String,
    pub heads: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// The whole file.
pub fn page(about: &About, lines: &[Line], verdict: &Verdict, extras: &[Extra]) -> String {
    let faults = figures::faults(lines);
    let parts = [
        header(about, verdict),
        tables::checks(verdict),
        tables::notes(lines),
        section("Operations a second", &charts::rates(lines, &faults)),
        section("Latency of acknowledged operations", &charts::latencies(lines, &faults)),
        timeline::anomalies(lines, verdict),
        extras.iter().map(|e| section(&e.title, &tables::extra(e))).collect(),
        section("What each kind of fault cost", &tables::summaries(&figures::summaries(&faults))),
        section("Every fault", &tables::faults(&faults)),
    ];
    let style = include_str!("style.css");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}: {}</title><style>{style}</style></head>\n<body>\n{}\n</body></html>\n",
        escape(&about.title),
        verdict.word(),
        parts.join("\n")
    )
}

fn header(about: &About, verdict: &Verdict) -> String {
    let why: Vec<String> = verdict.inconclusive.iter().map(|w| format!("<p>{}</p>", escape(w))).collect();
    format!(
        "<h1>{} <span id=\"verdict\" class=\"{word}\">{word}</span></h1>{}<pre>{}</pre>",
        escape(&about.title),
        why.join(""),
        escape(&about.command),
        word = verdict.word(),
    )
}

fn section(title: &str, body: &str) -> String {
    format!("<section><h2>{}</h2>\n{body}</section>", escape(title))
}

/// Text of others inside HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_stays_text() {
        let about = About { title: "<b>".into(), target: String::new(), command: "a & \"b\"".into() };
        let page = page(&about, &[], &Verdict::default(), &[]);
        assert!(!page.contains("<b>") && page.contains("a &amp; &quot;b&quot;"));
    }
}
