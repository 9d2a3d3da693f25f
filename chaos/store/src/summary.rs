//! A run in one line of JSON, so that many runs can be put together into one table of faults and workloads.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    record::{Class, Line, NEMESIS},
    Verdict,
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Such as `keelstone`, or `etcd`.
    pub target: String,
    pub command: String,
    pub seconds: u64,
    pub acknowledged: usize,
    /// How often each fault struck.
    pub faults: BTreeMap<String, usize>,
    /// How often each fault struck while clients of a workload had an operation under way: fault, workload, times.
    pub met: BTreeMap<String, BTreeMap<String, usize>>,
    /// The checks that did not hold.
    pub violated: BTreeSet<String>,
    /// See [`Verdict::word`].
    pub verdict: String,
}

impl Summary {
    pub fn of(target: &str, command: &str, lines: &[Line], verdict: &Verdict) -> Self {
        let mut all = Self {
            target: target.to_owned(),
            command: command.to_owned(),
            seconds: lines.iter().map(|l| l.end_us).max().unwrap_or(0) / 1_000_000,
            acknowledged: verdict.checks.iter().map(|c| c.counts[0]).sum(),
            violated: verdict.checks.iter().filter(|c| c.violation.is_some()).map(|c| c.name.clone()).collect(),
            verdict: verdict.word().to_owned(),
            ..Self::default()
        };
        for fault in lines.iter().filter(|l| l.source == NEMESIS) {
            *all.faults.entry(fault.kind.clone()).or_default() += 1;
            let met = all.met.entry(fault.kind.clone()).or_default();
            let beside = |l: &&Line| l.class != Class::Info && l.start_us < fault.end_us && fault.start_us < l.end_us;
            let workloads: BTreeSet<&str> = lines.iter().filter(beside).map(|l| l.source.as_str()).collect();
            for workload in workloads.into_iter().filter(|w| verdict.checks.iter().any(|c| c.name == *w)) {
                *met.entry(workload.to_owned()).or_default() += 1;
            }
        }
        all
    }
}

/// Faults down, workloads across: how often they met in all these runs, and in how many of those the workload's check did
/// not hold.
pub fn table(runs: &[Summary]) -> String {
    let workloads: BTreeSet<&str> =
        runs.iter().flat_map(|r| r.met.values()).flat_map(|m| m.keys().map(String::as_str)).collect();
    let faults: BTreeSet<&str> = runs.iter().flat_map(|r| r.faults.keys().map(String::as_str)).collect();
    let mut text = format!(
        "| fault | struck | {} |\n",
        workloads.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(" | ")
    );
    text.push_str(&format!("|---|{}\n", "---|".repeat(1 + workloads.len())));
    for fault in faults {
        let struck: usize = runs.iter().filter_map(|r| r.faults.get(fault)).sum();
        let cells: Vec<String> = workloads.iter().map(|workload| cell(runs, fault, workload)).collect();
        text.push_str(&format!("| `{fault}` | {struck} | {} |\n", cells.join(" | ")));
    }
    text
}

fn cell(runs: &[Summary], fault: &str, workload: &str) -> String {
    let times = |r: &Summary| r.met.get(fault).and_then(|m| m.get(workload)).copied().unwrap_or(0);
    let violated = runs.iter().filter(|r| times(r) > 0 && r.violated.contains(workload)).count();
    match (runs.iter().map(times).sum::<usize>(), violated) {
        (0, _) => "-".into(),
        (all, 0) => all.to_string(),
        (all, runs) => format!("{all}, **violated in {runs} runs**"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::line, verdict::Check};

    fn check(name: &str, violation: Option<&str>) -> Check {
        Check { name: name.into(), violation: violation.map(str::to_owned), counts: [2, 0, 0] }
    }

    #[test]
    fn a_fault_meets_the_workloads_that_are_under_way() {
        let lines = [
            line("bank", "transfer", 0, 10),
            line(NEMESIS, "kill", 5, 20),
            line("set", "add", 20, 30),
            line(NEMESIS, "kill", 25, 40),
        ];
        let verdict = Verdict { checks: vec![check("bank", None), check("set", Some("lost"))], ..Verdict::default() };
        let run = Summary::of("keelstone", "store", &lines, &verdict);
        assert_eq!(run.met["kill"], BTreeMap::from([("bank".into(), 1), ("set".into(), 1)]));
        assert_eq!((run.faults["kill"], run.acknowledged, run.verdict.as_str()), (2, 4, "violated"));
        assert_eq!(
            table(&[run.clone(), run]),
            "| fault | struck | `bank` | `set` |\n|---|---|---|---|\n| `kill` | 4 | 2 | 2, **violated in 2 runs** |\n"
        );
    }
}
