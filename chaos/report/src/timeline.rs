//! Whatever was violated: the story, and the operations around it, client by client, with those of the story marked.

use std::{collections::BTreeSet, fmt::Write};

use keelstone_chaos_store::{
    record::{Class, Line},
    verdict::Check,
    Verdict,
};
use serde_json::Value;

use crate::{
    escape,
    scale::{drawing, legend, Time},
    section,
};

const LANE: f64 = 22.0;
const TOP: f64 = 8.0;
/// Shown before and after the operations of the story.
const AROUND_US: u64 = 1_500_000;
/// Operations of one drawing; more are cut off at the end.
const OPERATIONS_MAX: usize = 2_000;

/// A section for each violated check; nothing if all held.
pub fn anomalies(lines: &[Line], verdict: &Verdict) -> String {
    let violated = verdict.checks.iter().filter(|c| c.violation.is_some());
    violated.map(|check| section(&format!("Violated: {}", check.name), &anomaly(lines, check))).collect()
}

fn anomaly(lines: &[Line], check: &Check) -> String {
    let story = check.violation.as_deref().unwrap_or_default();
    let told = format!("<pre class=\"story\">{}</pre>", escape(story));
    // Stories quote operations with their start, which names them.
    let starts: BTreeSet<u64> = numbers_after(story, "start_us: ");
    let own = || lines.iter().filter(|l| l.source == check.name && l.class != Class::Info);
    let marked: Vec<&Line> = own().filter(|l| quoted(l, &starts)).collect();
    let (Some(from), Some(to)) = (marked.iter().map(|l| l.start_us).min(), marked.iter().map(|l| l.end_us).max())
    else {
        return told;
    };
    let time = Time { from_us: from.saturating_sub(AROUND_US), to_us: to + AROUND_US };
    let keys: BTreeSet<String> = marked.iter().flat_map(|l| keys(&l.what)).collect();
    let near = own().filter(|l| l.end_us >= time.from_us && l.start_us <= time.to_us);
    let near: Vec<&Line> = near
        .filter(|l| keys.is_empty() || keys.iter().any(|k| self::keys(&l.what).contains(k)))
        .take(OPERATIONS_MAX)
        .collect();
    let names = keys.into_iter().collect::<Vec<_>>().join(", ");
    let title =
        format!("<p>Operations on {} around it</p>", escape(if names.is_empty() { &check.name } else { &names }));
    told + &title + &draw(&near, time, &starts)
}

/// Whether the operation is quoted: by its own start, which the checkers' structures repeat.
fn quoted(line: &Line, starts: &BTreeSet<u64>) -> bool {
    starts.contains(&line.start_us) || line.what["start_us"].as_u64().is_some_and(|s| starts.contains(&s))
}

fn numbers_after(text: &str, mark: &str) -> BTreeSet<u64> {
    let number = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
    text.split(mark).skip(1).filter_map(number).collect()
}

/// Every `key` in an operation, however deep.
fn keys(what: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![what];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("key").and_then(Value::as_str).map(str::to_owned));
                open.extend(fields.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

fn draw(lines: &[&Line], time: Time, starts: &BTreeSet<u64>) -> String {
    let clients: Vec<u32> = lines.iter().map(|l| l.client).collect::<BTreeSet<_>>().into_iter().collect();
    let mut body = String::new();
    for (row, client) in clients.iter().enumerate() {
        let y = TOP + LANE * row as f64;
        let _ = write!(body, "<text x=\"0\" y=\"{:.1}\">client {client}</text>", y + 12.0);
        for line in lines.iter().filter(|l| l.client == *client) {
            let class = match line.class {
                _ if quoted(line, starts) => "bad",
                Class::Ok | Class::Info => "ok",
                Class::Failed => "failed",
                Class::Unknown => "unknown",
            };
            let (x, end) = (time.x(line.start_us), time.x(line.end_us));
            let _ = write!(
                body,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"14\" rx=\"2\"><title>{} at {}: {}</title></rect>",
                (end - x).max(1.5),
                escape(&line.kind),
                escape(&line.host),
                escape(&line.what.to_string()),
            );
        }
    }
    let bottom = TOP + LANE * clients.len() as f64;
    body += &time.axis(bottom);
    legend(&[("bad", "in the story above"), ("ok", "acknowledged"), ("failed", "failed"), ("unknown", "unknown")])
        + &drawing(bottom + 20.0, &body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(client: u32, start_us: u64, key: &str) -> Line {
        Line {
            source: "register".into(),
            client,
            host: "m1".into(),
            start_us,
            end_us: start_us + 1_000,
            kind: "read".into(),
            class: Class::Ok,
            writes: false,
            what: json!({"start_us": start_us + 3, "call": {"read": {"key": key}}}),
        }
    }

    #[test]
    fn the_operations_of_the_story_are_marked_and_other_keys_left_out() {
        let lines =
            [line(0, 5_000_000, "a"), line(1, 5_100_000, "a"), line(1, 5_200_000, "b"), line(2, 60_000_000, "a")];
        let violation = Some("no order: Operation { client: 0, start_us: 5000003, end_us: 1 }".to_owned());
        let check = Check { name: "register".into(), violation, counts: [4, 0, 0] };
        let verdict = Verdict { checks: vec![check], inconclusive: vec![] };
        let drawn = anomalies(&lines, &verdict);
        assert_eq!(drawn.matches("class=\"bad\"").count(), 1);
        assert_eq!(drawn.matches("<rect class=\"ok\"").count(), 1);
        assert!(drawn.contains("client 1") && !drawn.contains("client 2"));
        assert!(anomalies(&lines, &Verdict::default()).is_empty());
    }
}
