//! Puts per second and latency on three members with a synced log, all in this process, over gRPC on loopback:
//!
//! ```text
//! cargo run --release -p keelstone-store-server --example bench -- --dir /var/tmp --clients 1,100,1000
//! ```
//! It prints and never judges.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Parser;
use keelstone_engine::{Engine, MemEngine, MemOptions};
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};
use keelstone_store_server::{InitialMember, RunningStore, StoreConfig, StoreServer};

type Failure = Box<dyn std::error::Error>;

/// Connections to each member that the clients share.
const CONNECTIONS_PER_MEMBER: usize = 8;

#[derive(Parser)]
struct Flags {
    /// Where the members' folders are made; its disk is what is measured.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    #[arg(long, default_value = "1,100,1000", value_delimiter = ',')]
    clients: Vec<usize>,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Linearizable reads instead of puts.
    #[arg(long)]
    reads: bool,
    /// Call the members in the process instead of over gRPC.
    #[arg(long)]
    local: bool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let flags = Flags::parse();
    let dir = tempfile::TempDir::new_in(&flags.dir)?;
    let members = start(&flags, dir.path()).await?;
    for clients in &flags.clients {
        measure(&flags, &members, *clients).await?;
    }
    for member in members {
        member.shutdown().await;
    }
    Ok(())
}

async fn start(flags: &Flags, dir: &std::path::Path) -> Result<Vec<RunningStore>, Failure> {
    let env = Env::os();
    let mut initial = Vec::new();
    for i in 0..flags.members {
        // Bound for a moment to learn a free port.
        let port = env.net().bind("127.0.0.1:0").await?.port();
        initial.push(InitialMember { name: format!("m{i}"), peer_url: format!("http://127.0.0.1:{port}") });
    }
    let mut members = Vec::new();
    for i in 0..flags.members {
        let config = StoreConfig::new(&format!("m{i}"), initial.clone(), dir.join(format!("m{i}")));
        let engine: Arc<dyn Engine> =
            Arc::new(MemEngine::open(env.clone(), dir.join(format!("engine{i}")), MemOptions::default())?);
        members.push(StoreServer::start(env.clone(), config, engine).await?);
    }
    for member in &members {
        member.wait_for_leader().await;
    }
    Ok(members)
}

async fn measure(flags: &Flags, members: &[RunningStore], clients: usize) -> Result<(), Failure> {
    let env = Env::os();
    let mut stores: Vec<Arc<dyn EtcdKv>> = Vec::new();
    for i in 0..clients.min(CONNECTIONS_PER_MEMBER * members.len()) {
        let member = &members[i % members.len()];
        stores.push(match flags.local {
            true => member.kv(),
            false => Arc::new(GrpcKv::new(&env, GrpcKvOptions::new(vec![member.client_address().to_owned()]))?),
        });
    }
    let value = bytes::Bytes::from(vec![b'x'; flags.value_bytes]);
    let end = env.now() + Duration::from_secs(flags.seconds);
    let started = env.now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (kv, value, env, reads) =
                (Arc::clone(&stores[client % stores.len()]), value.clone(), env.clone(), flags.reads);
            tokio::spawn(async move {
                let mut latencies_us = Vec::new();
                let mut failed = 0_u64;
                while env.now() < end {
                    let key = format!("bench/{client:06}/{:04}", latencies_us.len() % 1_000);
                    let before = env.now();
                    let done = match reads {
                        true => kv.range(pb::RangeRequest { key: key.into(), ..Default::default() }).await.map(drop),
                        false => {
                            let request =
                                pb::PutRequest { key: key.into(), value: value.clone(), ..Default::default() };
                            kv.put(request).await.map(drop)
                        }
                    };
                    match done {
                        Ok(()) => latencies_us.push(before.elapsed().as_micros()),
                        Err(_) => failed += 1,
                    }
                }
                (latencies_us, failed)
            })
        })
        .collect();
    let (mut all, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (latencies_us, failures) = task.await?;
        all.extend(latencies_us);
        failed += failures;
    }
    let took_s = started.elapsed().as_secs_f64();
    all.sort_unstable();
    let at =
        |share: f64| all.get((all.len() as f64 * share) as usize).or(all.last()).copied().unwrap_or(0) as f64 / 1e3;
    println!(
        "{} {clients:5} clients: {:8.0}/s  p50 {:7.2} ms  p99 {:7.2} ms  max {:7.2} ms  failed {failed}",
        if flags.reads { "reads" } else { "puts " },
        all.len() as f64 / took_s,
        at(0.5),
        at(0.99),
        at(1.0),
    );
    Ok(())
}
