//! Tables.

use keelstone_chaos_store::{
    figures::{FaultFigures, Summary},
    record::Line,
    Verdict,
};

use crate::{escape, section, Extra};

fn ms(us: u64) -> String {
    format!("{} ms", us / 1_000)
}

pub fn checks(verdict: &Verdict) -> String {
    let mut rows = String::new();
    for check in &verdict.checks {
        let word = if check.violation.is_some() { "violated" } else { "held" };
        let [ok, failed, unknown] = check.counts.map(|c| c.to_string());
        let numbers = [ok, failed, unknown].map(|n| format!("<td class=\"number\">{n}</td>")).concat();
        rows += &format!("<tr><td>{}</td><td class=\"{word}\">{word}</td>{numbers}</tr>", escape(&check.name));
    }
    let head = ["acknowledged", "failed", "unknown"].map(|n| format!("<th class=\"number\">{n}</th>")).concat();
    section("Checks", &format!("<table><tr><th>check</th><th></th>{head}</tr>{rows}</table>"))
}

/// What the suite itself remarked: faults that cannot strike here, members that ended by themselves.
pub fn notes(lines: &[Line]) -> String {
    let notes = lines.iter().filter(|l| l.source == "suite").filter_map(|l| l.what.as_str());
    let items: String = notes.map(|n| format!("<li>{}</li>", escape(n))).collect();
    if items.is_empty() {
        return String::new();
    }
    section("Remarks", &format!("<ul>{items}</ul>"))
}

pub fn summaries(summaries: &[Summary]) -> String {
    let mut rows = String::new();
    for s in summaries {
        let numbers = [s.gap_us.0, s.gap_us.1, s.recovery_us.0, s.recovery_us.1];
        let numbers: String = numbers.iter().map(|n| format!("<td class=\"number\">{}</td>", ms(*n))).collect();
        rows += &format!("<tr><td>{}</td><td class=\"number\">{}</td>{numbers}</tr>", escape(&s.nemesis), s.times);
    }
    let heads = ["times", "without writes, median", "maximum", "to the first write after it, median", "maximum"];
    let heads: String = heads.iter().map(|h| format!("<th class=\"number\">{h}</th>")).collect();
    format!("<table><tr><th>fault</th>{heads}</tr>{rows}</table>")
}

pub fn faults(faults: &[FaultFigures]) -> String {
    let mut rows = String::new();
    for f in faults {
        let seconds = |us: u64| format!("<td class=\"number\">{:.1} s</td>", us as f64 / 1e6);
        rows += &format!(
            "<tr>{}{}<td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            seconds(f.start_us),
            seconds(f.end_us),
            escape(&f.told),
            ms(f.gap_us),
            f.recovery_us.map_or("never".into(), ms),
        );
    }
    let heads = "<th class=\"number\">from</th><th class=\"number\">to</th><th>what</th>";
    format!("<table><tr>{heads}<th class=\"number\">without writes</th><th class=\"number\">recovery</th></tr>{rows}</table>")
}

/// The first column is text, the others are numbers.
pub fn extra(extra: &Extra) -> String {
    let cell = |tag: &str, i: usize, text: &str| {
        let class = if i > 0 { " class=\"number\"" } else { "" };
        format!("<{tag}{class}>{}</{tag}>", escape(text))
    };
    let row = |tag: &str, cells: &[String]| {
        let cells: String = cells.iter().enumerate().map(|(i, text)| cell(tag, i, text)).collect();
        format!("<tr>{cells}</tr>")
    };
    let rows: String = extra.rows.iter().map(|r| row("td", r)).collect();
    format!("<table>{}{rows}</table>", row("th", &extra.heads))
}
