//! The binary on some seeds: green as it is, red with known bugs put in. With `--cfg madsim` only (`make madsim`).
#![cfg(madsim)]
#![allow(clippy::disallowed_methods, reason = "one seed per process")]

use std::process::Command;

/// What the run of these arguments said, and its exit code.
fn run(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_keelstone-interleavings")).args(arguments).output();
    let output = output.expect("the binary starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (said.concat(), output.status.code())
}

#[test]
fn openrafts_suite_passes_on_madsim() {
    keelstone_raft::pass_suite();
}

#[test]
fn the_core_keeps_its_invariants_and_a_seed_decides_its_run() {
    let (said, code) = run(&["--seeds", "1..12", "--twice-first", "4", "--jobs", "2"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("12 seeds: 0 failed; 0 of the 4 that ran twice had other hashes"), "{said}");
    assert!(said.contains("PowerLoss") && said.contains("Isolate"), "no fault struck: {said}");
}

/// What is put in, and the check that finds it in one of some seeds.
#[test]
fn known_bugs_are_found() {
    for (bug, check) in [
        ("etcd-13766", "equal state (4)"),
        ("etcd-14370", "commit on quorum (1)"),
        ("etcd-15220", "watch (5)"),
        ("etcd-15271", "watch (5)"),
        ("openraft-1802", "commit on quorum (1)"),
        ("raft-dev-2015", "one leader a term"),
    ] {
        let (said, code) = run(&["--seeds", "1..8", "--jobs", "2", "--plant", bug]);
        assert!(code == Some(0) && said.contains(&format!("violation: {check}")), "{bug}: {said}");
    }
}

#[test]
fn wrong_arguments_are_refused_with_code_2() {
    for wrong in [&["--seeds", "5..1"][..], &["--seed", "x"], &["--plant", "nothing", "--seed", "1"], &[]] {
        assert_eq!(run(wrong).1, Some(2));
    }
}
