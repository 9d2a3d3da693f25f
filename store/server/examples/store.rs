//! One member of the store from flags, to try etcdctl on:
//!
//! ```text
//! cargo run -p keelstone-store-server --example store -- \
//!     --name a --initial-cluster a=http://127.0.0.1:2380 --data-dir /tmp/a --listen-client 127.0.0.1:2379
//! ```
//! `--engine rocks` needs the feature `rocks`; the default keeps the state in memory and on flushes in a file.

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use keelstone_engine::{Engine, MemEngine, MemOptions};
use keelstone_env::Env;
use keelstone_store_server::{InitialMember, StoreConfig, StoreServer};

type Failure = Box<dyn std::error::Error>;

#[derive(Parser)]
struct Flags {
    #[arg(long)]
    name: String,
    /// name=peer-url,...
    #[arg(long)]
    initial_cluster: String,
    #[arg(long)]
    data_dir: PathBuf,
    #[arg(long, default_value = "127.0.0.1:2379")]
    listen_client: String,
    /// mem or rocks
    #[arg(long, default_value = "mem")]
    engine: String,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let flags = Flags::parse();
    keelstone_allocator::purge_in_background();
    let env = Env::os();
    let mut config = StoreConfig::new(&flags.name, InitialMember::parse_list(&flags.initial_cluster)?, &flags.data_dir);
    config.listen_client = flags.listen_client.clone();
    let engine = open_engine(&env, &flags)?;
    let store = StoreServer::start(env, config, engine).await?;
    println!("serving clients on {}", store.client_address());
    tokio::signal::ctrl_c().await?;
    store.shutdown().await;
    Ok(())
}

fn open_engine(env: &Env, flags: &Flags) -> Result<Arc<dyn Engine>, Failure> {
    let dir = flags.data_dir.join("engine");
    match flags.engine.as_str() {
        "mem" => Ok(Arc::new(MemEngine::open(env.clone(), dir, MemOptions::default())?)),
        #[cfg(feature = "rocks")]
        "rocks" => {
            let options = keelstone_store_server::RocksOptions::default();
            Ok(Arc::new(keelstone_store_server::RocksEngine::open(dir, options)?))
        }
        other => Err(format!("unknown engine {other:?}: mem, or rocks with the feature of that name").into()),
    }
}
