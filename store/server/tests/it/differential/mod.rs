//! The same requests to a real etcd and to this store: answers, revisions, error codes, texts and watch events must
//! be equal. etcd 3.5 is taken if `.ci/etcd` has fetched it, else `$ETCD` or `/usr/bin/etcd`.
//!
//! `$DIFFERENTIAL_PROGRAMS` and `$DIFFERENTIAL_SEED` choose how many random programs run and which ones.
//! `make differential` runs 10,000.

mod pair;
mod program;
mod target;
mod watching;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use self::{pair::Pair, program::Step};
use crate::requests::table;

const PROGRAMS: u64 = 240;
/// Pairs of servers that run programs at the same time.
const PAIRS: u64 = 4;
const STEPS_MAX: usize = 24;
/// Steps that a failing program is made smaller by, each on a fresh pair of servers.
const SIMPLER_MAX: usize = 60;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_is_answered_as_by_etcd() {
    let Some(mut pair) = Pair::start().await else { return };
    let mut differences = Vec::new();
    for call in table() {
        differences.extend(pair.compare(&call).await.err());
    }
    pair.stop().await;
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// Whether a program differs on servers of its own.
async fn differs(program: &[Step]) -> Option<String> {
    let mut pair = Pair::start().await?;
    let difference = pair.run(program).await.err();
    pair.stop().await;
    difference
}

/// A smaller program that differs as well, and how.
async fn simplest(mut tree: impl ValueTree<Value = Vec<Step>>, said: String) -> String {
    let Some(mut difference) = differs(&tree.current()).await else {
        return format!("{said}\n(not on fresh servers)");
    };
    let mut smallest = tree.current();
    for _ in 0..SIMPLER_MAX {
        let more = match differs(&tree.current()).await {
            Some(found) => {
                (difference, smallest) = (found, tree.current());
                tree.simplify()
            }
            None => tree.complicate(),
        };
        if !more {
            break;
        }
    }
    format!("{difference}\nof the program {smallest:#?}")
}

/// Runs random programs on one pair of servers; how many steps they had, and how often etcd ended with a panic.
async fn run(mut pair: Pair, programs: u64, seed: u64) -> (usize, usize) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = program::program(STEPS_MAX);
    let (mut steps, mut panics) = (0, 0);
    for number in 0..programs {
        let tree = strategy.new_tree(&mut runner).unwrap();
        steps += tree.current().len();
        if let Err(said) = pair.run(&tree.current()).await {
            let program = format!("{:?}", tree.current());
            let ignoring = ["ignore_value: true", "ignore_lease: true"].iter().any(|what| program.contains(what));
            let ended = said.starts_with("Txn(") && ignoring && pair.etcd_has_ended();
            pair.stop().await;
            if ended {
                panics += 1;
                pair = Pair::start().await.unwrap();
                continue;
            }
            println!("seed {seed}: program {number} differs; looking for a smaller one\n{said}");
            let told = simplest(tree, said).await;
            panic!("program {number} of seed {seed}: {told}");
        }
        if number % 500 == 499 {
            println!("seed {seed}: {} programs without a difference", number + 1);
        }
    }
    pair.stop().await;
    (steps, panics)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_programs_are_answered_as_by_etcd() {
    let programs = from_environment("DIFFERENTIAL_PROGRAMS", PROGRAMS);
    let seed = from_environment("DIFFERENTIAL_SEED", 1);
    // Side by side: etcd looks for watches that lag only ten times a second, which is waited for most of the time.
    let mut running = Vec::new();
    for number in 0..PAIRS {
        let Some(pair) = Pair::start().await else { return };
        running.push(run(pair, programs.div_ceil(PAIRS), seed * 1_000 + number));
    }
    let ran = futures::future::join_all(running).await;
    let (steps, panics) = ran.into_iter().fold((0, 0), |(s, p), (steps, panics)| (s + steps, p + panics));
    println!(
        "differential: {programs} programs, {steps} steps, seed {seed}: no difference; etcd panicked {panics} times"
    );
}
