//! The binary on a few seeds, each in processes of its own: green as it is, and red with each planted defect.
#![allow(clippy::disallowed_methods, reason = "one seed per process")]

use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keelstone-sim")).args(arguments).output().expect("the binary starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every case that ever failed, and holds now. Their first line says what was broken.
#[test]
fn no_case_fails_again() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut cases: Vec<_> =
        std::fs::read_dir(folder).expect("the cases are there").flatten().map(|e| e.path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    cases.sort();
    for case in cases {
        let output = simulate(&["--case", case.to_str().expect("a plain name")]);
        assert!(output.status.success(), "{}: {}", case.display(), text(&output));
    }
}

/// What `--shrink` writes fails in the same way, and is small.
#[test]
fn a_failing_seed_is_shrunk_to_a_case_that_fails() {
    let path = std::env::temp_dir().join(format!("keelstone-sim-shrunk-{}.txt", std::process::id()));
    let file = path.to_str().expect("a plain name");
    let shrunk = simulate(&[
        "--seed",
        "1",
        "--scenario",
        "store",
        "--plant",
        "skipped-watch",
        "--shrink",
        file,
        "--shrink-trials",
        "12",
    ]);
    assert!(text(&shrunk).contains("violation: watch (5)"), "{}", text(&shrunk));
    let again = simulate(&["--case", file]);
    assert!(text(&again).contains("violation: watch (5)"), "{}", text(&again));
    let case = std::fs::read_to_string(&path).expect("the case was written");
    assert!(case.starts_with("# Broke: watch (5)"), "{case}");
    std::fs::remove_file(path).expect("the case can be removed");
}

#[test]
fn the_store_keeps_its_invariants_and_a_seed_decides_its_run() {
    let output = simulate(&["--seeds", "1..4", "--twice", "--scenario", "store"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn whole_masters_and_workers_keep_their_invariants_and_a_seed_decides_their_run() {
    let output = simulate(&["--seeds", "2..2", "--twice", "--scenario", "stack"]);
    assert!(output.status.success(), "{}", text(&output));
}

/// Power may go at a moment at which nothing was lost, so one of some seeds is enough.
#[test]
fn a_planted_lost_write_is_caught() {
    let seeds = ["1", "2", "3"];
    let said = seeds.map(|seed| text(&simulate(&["--seed", seed, "--scenario", "store", "--plant", "lost-write"])));
    // A member that finds out by itself refuses to start; else a client's history tells.
    let told = ["durability", "linearizability", "append lists", "set", "bank", "a process ended"];
    let caught = |said: &String| {
        told.iter().any(|invariant| said.contains(&format!("violation: {invariant}")))
            && said.contains("run it again: cargo run -p keelstone-sim -- --seed")
    };
    assert!(said.iter().any(caught), "{said:#?}");
}

#[test]
fn a_planted_skipped_watch_event_is_caught() {
    for scenario in ["store", "stack"] {
        let output = simulate(&["--seed", "1", "--scenario", scenario, "--plant", "skipped-watch"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("violation: watch (5)"), "{said}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_code_2() {
    for wrong in [&["--seeds", "5..1"][..], &["--seed", "x"], &["--scenario", "store"], &["--case", "nowhere"]] {
        assert_eq!(simulate(wrong).status.code(), Some(2));
    }
}
