//! The table.

use std::path::Path;

use crate::{io, load::Sample, plan::Plan, Failure, Outcome};

pub const MARK_BEGIN: &str = "<!-- table of make bench -->";
pub const MARK_END: &str = "<!-- end of the table -->";
const MIB: f64 = (1 << 20) as f64;

/// What was measured of all systems, ours first.
pub struct Table {
    systems: Vec<&'static str>,
    rates: Vec<String>,
    figures: Vec<String>,
    about: String,
}

impl Table {
    pub fn new(systems: Vec<&'static str>, plan: &Plan) -> Self {
        let about = format!(
            "{}: {} rounds of {} s for each system and row, in turn; {} keys in the large store.",
            if plan.quick { "Quick run" } else { "Full run" },
            plan.rounds,
            plan.round_s,
            plan.large_keys
        );
        Self { systems, rates: Vec::new(), figures: Vec::new(), about }
    }

    /// Adds a row of requests; `samples` in the order of the systems.
    pub fn add_samples(&mut self, name: &str, samples: &[Sample]) {
        let cells = |figure: fn(&Sample) -> f64| compare(&samples.iter().map(figure).collect::<Vec<_>>());
        let line = format!(
            "| {name} | {} | {} | {} | {} | {} |",
            cells(Sample::per_s),
            cells(|s| s.latencies.at_ms(0.5)),
            cells(|s| s.latencies.at_ms(0.99)),
            cells(Sample::cpu_us),
            cells(|s| s.resident_bytes as f64 / MIB),
        );
        println!("{line}");
        for (system, sample) in self.systems.iter().zip(samples).filter(|(_, sample)| sample.failed > 0) {
            println!("  {system}: {} requests failed", sample.failed);
        }
        self.rates.push(line);
    }

    /// Adds a row of one figure for each system.
    pub fn add_figure(&mut self, name: String, unit: &str, figures: &[f64]) {
        let line = format!("| {name}, {unit} | {} |", compare(figures));
        println!("{line}");
        self.figures.push(line);
    }

    pub fn text(&self) -> String {
        let order = self.systems.join(" / ");
        let mut text = format!("{}\n\nEach cell: {order} = ratio.\n", self.about);
        if !self.rates.is_empty() {
            text.push_str("\n| row | per second | p50 ms | p99 ms | servers' CPU us a request | resident MiB |\n");
            text.push_str("|---|---|---|---|---|---|\n");
            self.rates.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        if !self.figures.is_empty() {
            text.push_str(&format!("\n| row | {order} = ratio |\n|---|---|\n"));
            self.figures.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }

    /// Replaces the part of `path` between the two marks.
    pub fn write_into(&self, path: &Path) -> Outcome<()> {
        let what = path.display().to_string();
        let text = io(what.clone(), std::fs::read_to_string(path))?;
        let parts = text.split_once(MARK_BEGIN).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(MARK_END)?;
            Some((before, after))
        });
        let Some((before, after)) = parts else {
            return Err(Failure::Failed(format!("{what} has no part between {MARK_BEGIN} and {MARK_END}")));
        };
        let text = format!("{before}{MARK_BEGIN}\n{}{MARK_END}{after}", self.text());
        io(what, std::fs::write(path, text))
    }
}

/// `ours / theirs = ratio`
fn compare(figures: &[f64]) -> String {
    let mut text = figures.iter().map(|figure| number(*figure)).collect::<Vec<_>>().join(" / ");
    if let [ours, theirs] = figures {
        text.push_str(&format!(" = {:.2}", ours / theirs.max(1e-9)));
    }
    text
}

fn number(figure: f64) -> String {
    match figure {
        f if f >= 100.0 => format!("{f:.0}"),
        f if f >= 10.0 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_the_table_between_its_marks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.md");
        std::fs::write(&path, format!("before\n{MARK_BEGIN}\nold\n{MARK_END}\nafter\n")).unwrap();
        let mut table = Table::new(vec!["a", "b"], &Plan::new(true, &[]));
        table.add_figure("memory".into(), "MiB", &[50.0, 200.0]);
        table.write_into(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with("\nafter\n") && !text.contains("old"), "{text}");
        assert!(text.contains("| memory, MiB | 50.0 / 200 = 0.25 |"), "{text}");
        std::fs::write(&path, "no marks").unwrap();
        assert!(table.write_into(&path).is_err());
    }
}
