//! The bug planted in an operator is found by a plan of perturbation, and only then; the same operator without
//! the bug holds under every plan. Each run is a process of its own.
#![allow(clippy::disallowed_methods, reason = "one seed per process")]

use std::{io::Write as _, ops::RangeInclusive, process::Command};

use serde_json::Value;

const SEEDS: RangeInclusive<u64> = 1..=3;

/// How the run ended: the one line that it prints, and its exit code.
fn run(rules: &str, seed: u64, flags: &[&str]) -> (Value, Option<i32>) {
    let mut plan = tempfile::NamedTempFile::new().unwrap();
    write!(plan, "{{seed: {seed}, observe: [fleet-operator], rules: [{rules}]}}").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keelstone-operator"));
    command.args(["--seed", &seed.to_string(), "--plan"]).arg(plan.path()).args(flags);
    let output = command.output().expect("the binary starts");
    let said = serde_json::from_slice(&output.stdout);
    (said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))), output.status.code())
}

fn writes(said: &Value) -> &[Value] {
    said["writes"].as_array().expect("the operator's writes")
}

/// The operator sees its ships two to four seconds after it made them.
const LATE_SHIPS: &str = "{users: [fleet-operator], resources: [secrets], effect: hold, ms: [2000, 4000]}";

/// All that a plan can do, now and then.
const EVERYTHING: &str = "
    {users: [fleet-operator], effect: delay, percent: 20, ms: [10, 500]},
    {users: [fleet-operator], effect: stale, percent: 30, ms: [1000, 5000]},
    {users: [fleet-operator], resources: [secrets], effect: hold, percent: 50, ms: [100, 3000]},
    {users: [fleet-operator], effect: slow, percent: 20, ms: [10, 200]},
    {users: [fleet-operator], effect: drop, percent: 50, ms: [2000, 9000]},
    {users: [fleet-operator], effect: gone, percent: 20},
    {users: [fleet-operator], effect: throttle, percent: 5},
    {users: [fleet-operator], effect: fail, percent: 5},
    {users: [fleet-operator], effect: fail-after-commit, percent: 20}";

#[test]
fn without_a_plan_the_bug_is_not_seen() {
    for seed in SEEDS {
        let (said, code) = run("", seed, &["--planted"]);
        assert_eq!((&said["violation"], code), (&Value::Null, Some(0)), "{said}");
        assert_eq!(writes(&said).len(), 9, "{said}");
    }
}

/// The bug, as the report shows it: a ship is made while the view of ships is behind one that was made before.
fn made_on_a_late_view(said: &Value) -> bool {
    let writes = writes(said);
    (1..writes.len()).any(|at| {
        let views = writes[at]["frontiers"].as_array().expect("the views at that time");
        let ships = views.iter().find(|view| view[0]["resource"] == "secrets").and_then(|view| view[1].as_i64());
        ships < writes[at - 1]["revision"].as_i64()
    })
}

#[test]
fn a_late_view_shows_it_and_the_report_how_late_it_was() {
    for seed in SEEDS {
        let (said, code) = run(LATE_SHIPS, seed, &["--planted"]);
        let violation = said["violation"].as_str().unwrap_or_else(|| panic!("nothing is found: {said}"));
        assert!(violation.contains("ships") && code == Some(1), "{said}");
        assert!(made_on_a_late_view(&said), "{said}");
    }
}

#[test]
fn the_operator_without_the_bug_holds_under_everything() {
    for seed in SEEDS {
        for rules in [LATE_SHIPS, EVERYTHING] {
            let (said, code) = run(rules, seed, &[]);
            assert_eq!((&said["violation"], code), (&Value::Null, Some(0)), "{said}");
        }
    }
}

#[test]
fn a_seed_decides_its_run() {
    assert_eq!(run(EVERYTHING, 7, &["--planted"]), run(EVERYTHING, 7, &["--planted"]));
    assert_ne!(run("", 7, &[]).0["hash"], run("", 8, &[]).0["hash"]);
}

#[test]
fn a_plan_that_cannot_be_read_is_refused_with_code_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_keelstone-operator"))
        .args(["--seed", "1", "--plan", "nowhere"])
        .output()
        .expect("the binary starts");
    assert_eq!(output.status.code(), Some(2));
}
