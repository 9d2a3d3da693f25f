//! How long a store of three processes takes no writes after its leader was killed with SIGKILL, again and again:
//!
//! ```text
//! cargo run -p keelstone-store-server --example failover -- --tries 20
//! ```
//! It prints and never judges. The members are this program itself, in processes of their own.
#![allow(clippy::disallowed_methods)] // it starts and kills processes

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::{Parser, Subcommand};
use keelstone_engine::{MemEngine, MemOptions};
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};
use keelstone_store_server::{InitialMember, StoreConfig, StoreServer, Timing};
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Pause between two tries, in which the killed member comes back.
const REST: Duration = Duration::from_secs(3);
/// A put that takes longer is given up and tried again.
const PUT_TIME_MAX: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Flags {
    #[command(subcommand)]
    member: Option<Role>,
    #[arg(long, default_value_t = 20)]
    tries: usize,
    /// Where the members' folders are made.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// The sum of lease and random wait; the store's default if it is not given.
    #[arg(long)]
    election_timeout_ms: Option<u64>,
}

#[derive(Subcommand)]
enum Role {
    /// One member; used by the program itself.
    #[command(hide = true)]
    Member { name: String, cluster: String, client: String, dir: PathBuf, election_timeout_ms: u64 },
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let flags = Flags::parse();
    match flags.member {
        Some(Role::Member { name, cluster, client, dir, election_timeout_ms }) => {
            serve(&name, &cluster, client, &dir, election_timeout_ms).await
        }
        None => measure(&flags).await,
    }
}

async fn serve(name: &str, cluster: &str, client: String, dir: &Path, election_ms: u64) -> Result<(), Failure> {
    let mut config = StoreConfig::new(name, InitialMember::parse_list(cluster)?, dir);
    config.listen_client = client;
    config.timing = Timing::new(Duration::from_millis(election_ms), config.timing.heartbeat);
    let engine = MemEngine::open(Env::os(), dir.join("engine"), MemOptions::default())?;
    let store = StoreServer::start(Env::os(), config, Arc::new(engine)).await?;
    Err(store.ended().await.into())
}

/// The processes, which end with this value.
struct Members {
    cluster: String,
    clients: Vec<String>,
    dir: tempfile::TempDir,
    election_timeout_ms: u64,
    running: Vec<Child>,
}

impl Members {
    fn start(flags: &Flags) -> Result<Self, Failure> {
        let ports: Vec<u16> = {
            let free: Vec<_> = (0..6).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
            free.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<std::io::Result<_>>()?
        };
        let peers: Vec<String> = (0..3).map(|at| format!("m{at}=http://127.0.0.1:{}", ports[at])).collect();
        let default_ms = u64::try_from(Timing::default().election_timeout().as_millis())?;
        let mut members = Self {
            cluster: peers.join(","),
            clients: ports[3..].iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            dir: tempfile::tempdir_in(&flags.dir)?,
            election_timeout_ms: flags.election_timeout_ms.unwrap_or(default_ms),
            running: Vec::new(),
        };
        for at in 0..3 {
            let child = members.spawn(at)?;
            members.running.push(child);
        }
        Ok(members)
    }

    fn spawn(&self, at: usize) -> std::io::Result<Child> {
        let name = format!("m{at}");
        Command::new(std::env::current_exe()?)
            .args(["member", &name, &self.cluster, &self.clients[at]])
            .arg(self.dir.path().join(&name))
            .arg(self.election_timeout_ms.to_string())
            .stdin(Stdio::null())
            .spawn()
    }

    fn kill(&mut self, at: usize) -> std::io::Result<()> {
        self.running[at].kill()?;
        self.running[at].wait().map(drop)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn measure(flags: &Flags) -> Result<(), Failure> {
    let mut members = Members::start(flags)?;
    let kv = |address: &String| GrpcKv::new(&Env::os(), GrpcKvOptions::new(vec![address.clone()])).map(Arc::new);
    let clients: Vec<Arc<GrpcKv>> = members.clients.iter().map(kv).collect::<Result<_, _>>()?;
    let mut gaps_ms = Vec::new();
    for attempt in 0..flags.tries {
        tokio::time::sleep(REST).await;
        let leader = leader(&clients).await?;
        let survivors: Vec<_> = (0..3).filter(|at| *at != leader).map(|at| Arc::clone(&clients[at])).collect();
        let killed = Instant::now();
        members.kill(leader)?;
        let puts = survivors.iter().map(|client| Box::pin(first_put(client)));
        let (took, ..) = futures::future::select_all(puts).await;
        let gap_ms = took.duration_since(killed).as_millis();
        println!("try {:2}: leader m{leader} killed, next write after {gap_ms} ms", attempt + 1);
        gaps_ms.push(gap_ms);
        members.running[leader] = members.spawn(leader)?;
    }
    gaps_ms.sort_unstable();
    let (Some(least), Some(most)) = (gaps_ms.first(), gaps_ms.last()) else { return Ok(()) };
    let median = gaps_ms[gaps_ms.len() / 2];
    println!("{} tries: median {median} ms, least {least} ms, most {most} ms", gaps_ms.len());
    Ok(())
}

/// The member that leads and says so.
async fn leader(clients: &[Arc<GrpcKv>]) -> Result<usize, Failure> {
    for _ in 0..200 {
        for (at, client) in clients.iter().enumerate() {
            let Ok(Ok(status)) = tokio::time::timeout(PUT_TIME_MAX, client.status()).await else { continue };
            if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(at);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("no leader was elected".into())
}

/// Puts until it works; returns when that was.
async fn first_put(client: &GrpcKv) -> Instant {
    loop {
        let put = pb::PutRequest { key: "failover".into(), value: "x".into(), ..Default::default() };
        if let Ok(Ok(_)) = tokio::time::timeout(PUT_TIME_MAX, client.put(put)).await {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
