//! The state machine on RocksDB, alone: how fast it loads, what it keeps in memory and on disk, how fast it opens, and
//! what compaction and giving back space do to writes beside them. Prints; asserts nothing.
//!
//! `state load --dir DIR [--keys 1000000] [--value-bytes 256]`, then `state open` (a process of its own, so that its
//! memory is that of a restart), `state compact` (overwrites, compacts and reclaims beside writes).

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Parser;
use keelstone_engine_rocks::{RocksEngine, RocksOptions};
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Command, Entry, Mvcc, MvccOptions, Op, Payload};

#[derive(Parser)]
struct Arguments {
    /// load, open or compact
    what: String,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Commands in one batch.
    #[arg(long, default_value_t = 100)]
    batch: u64,
}

type Failure = Box<dyn std::error::Error>;

struct State {
    env: Env,
    arguments: Arguments,
    mvcc: Mvcc,
    next_index: u64,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let env = Env::os();
    env.disk().create_dir_all(&arguments.dir)?;
    let started = env.now();
    let engine = Arc::new(RocksEngine::open(arguments.dir.join("db"), RocksOptions::default())?);
    let mvcc = Mvcc::open(engine, MvccOptions { quota_bytes: 0, ..MvccOptions::default() })?;
    println!("open: {:.0?}, revision {}, {} MiB resident", started.elapsed(), mvcc.revision(), resident_mib(&env));
    let next_index = mvcc.applied().index + 1;
    let mut state = State { env, arguments, mvcc, next_index };
    match state.arguments.what.as_str() {
        "load" => state.load("load")?,
        "open" => state.read()?,
        "compact" => state.compact()?,
        other => return Err(format!("unknown word {other:?}").into()),
    }
    Ok(())
}

impl State {
    fn load(&mut self, what: &str) -> Result<(), Failure> {
        let started = self.env.now();
        for first in (0..self.arguments.keys).step_by(usize::try_from(self.arguments.batch)?) {
            let last = (first + self.arguments.batch).min(self.arguments.keys);
            self.apply((first..last).map(|number| self.put(number)).collect())?;
        }
        let elapsed = started.elapsed();
        self.mvcc.flush()?;
        let (disk, in_use) = self.mvcc.size_bytes();
        println!(
            "{what}: {} puts of {} B in {elapsed:.1?}, {:.0}/s, {} MiB resident, {} MiB on disk, {} MiB in use",
            self.arguments.keys,
            self.arguments.value_bytes,
            self.arguments.keys as f64 / elapsed.as_secs_f64(),
            resident_mib(&self.env),
            disk >> 20,
            in_use >> 20,
        );
        Ok(())
    }

    /// Single keys, pages of 500, and counts at the current and at an older revision.
    fn read(&mut self) -> Result<(), Failure> {
        let keys = self.arguments.keys;
        let bench = |what: &str, times: u64, read: &dyn Fn(u64) -> Result<i64, Failure>| -> Result<(), Failure> {
            let started = self.env.now();
            let mut found = 0;
            for i in 0..times {
                found += read(i * 7_919 % keys.max(1))?;
            }
            println!("{what}: {:.1?} each ({found} found)", started.elapsed() / u32::try_from(times)?);
            Ok(())
        };
        let range = |request: &pb::RangeRequest| -> Result<pb::RangeResponse, Failure> {
            self.mvcc.range(request).map_err(|error| error.to_string().into())
        };
        let from = |number| pb::RangeRequest { key: key(number), range_end: "l".into(), ..Default::default() };
        bench(
            "get",
            20_000,
            &|i| Ok(range(&pb::RangeRequest { key: key(i), ..Default::default() })?.kvs.len() as i64),
        )?;
        bench("page of 500 with count", 500, &|i| Ok(range(&pb::RangeRequest { limit: 500, ..from(i) })?.count))?;
        bench("count", 2_000, &|i| Ok(range(&pb::RangeRequest { count_only: true, ..from(i) })?.count))?;
        let revision = (self.mvcc.revision() - 10_000).max(1);
        bench("page of 500 with count, 10,000 revisions ago", 100, &|i| {
            Ok(range(&pb::RangeRequest { limit: 500, revision, ..from(i) })?.count)
        })?;
        println!("afterwards: {} MiB resident", resident_mib(&self.env));
        Ok(())
    }

    /// Steps between writes, as often as a member makes them: what a write waits for shows in its own time.
    fn compact(&mut self) -> Result<(), Failure> {
        self.load("overwrite")?;
        self.writes("writes, quiet", 3_000)?;
        let revision = self.mvcc.revision();
        self.apply(vec![Op::Compact(pb::CompactionRequest { revision, physical: false })])?;
        let started = self.env.now();
        let mut steps: Vec<Duration> = Vec::new();
        loop {
            let step = self.env.now();
            let more = self.mvcc.compact_step(1_000)?;
            steps.push(step.elapsed());
            if steps.len() == 100 {
                self.writes("writes, in the middle of compaction", 3_000)?;
            }
            if !more {
                break;
            }
        }
        print_times("compaction steps of 1,000", &mut steps);
        println!("compaction: {:.1?}", started.elapsed());
        let started = self.env.now();
        self.mvcc.flush()?;
        self.mvcc.reclaim()?;
        let (disk, in_use) = self.mvcc.size_bytes();
        println!("reclaim: {:.1?}, {} MiB on disk, {} MiB in use", started.elapsed(), disk >> 20, in_use >> 20);
        self.writes("writes, afterwards", 3_000)
    }

    fn writes(&mut self, what: &str, times: u64) -> Result<(), Failure> {
        let mut took = Vec::new();
        for i in 0..times {
            let op = self.put(i * 7_919 % self.arguments.keys.max(1));
            let started = self.env.now();
            self.apply(vec![op])?;
            took.push(started.elapsed());
        }
        print_times(what, &mut took);
        Ok(())
    }

    fn put(&self, number: u64) -> Op {
        let random = self.env.random();
        let mut value = Vec::with_capacity(self.arguments.value_bytes + 8);
        while value.len() < self.arguments.value_bytes {
            value.extend(random.next_u64().to_be_bytes());
        }
        value.truncate(self.arguments.value_bytes);
        Op::Put(pb::PutRequest { key: key(number), value: value.into(), ..Default::default() })
    }

    fn apply(&mut self, ops: Vec<Op>) -> Result<(), Failure> {
        let mut entries = Vec::with_capacity(ops.len());
        for op in ops {
            let payload = Payload::Command(Command { proposer_term: 1, op: Some(op), caller: None });
            let log_id = self.next_index.to_be_bytes().to_vec().into();
            entries.push(Entry { index: self.next_index, term: 1, log_id, payload });
            self.next_index += 1;
        }
        self.mvcc.apply(entries)?;
        Ok(())
    }
}

fn print_times(what: &str, took: &mut [Duration]) {
    took.sort();
    let at = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    println!("{what}: {}, p50 {:.0?}, p99 {:.0?}, max {:.0?}", took.len(), at(50), at(99), at(100));
}

fn key(number: u64) -> bytes::Bytes {
    format!("key/{number:010}").into()
}

fn resident_mib(env: &Env) -> u64 {
    let status = env.disk().read(std::path::Path::new("/proc/self/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status).into_owned();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() >> 10
}
