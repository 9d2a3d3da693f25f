use std::{path::PathBuf, sync::Arc};

use clap::Args;
use keelstone_engine::Engine;
use keelstone_engine_rocks::{RocksEngine, RocksOptions};
use keelstone_env::Env;
use keelstone_store_server::{InitialMember, StoreConfig, StoreServer};

use super::asked_to_stop;
use crate::Failure;

#[derive(Args)]
pub struct StoreArguments {
    /// This member's name; one of --initial-cluster.
    #[arg(long, default_value = "default")]
    name: String,
    #[arg(long, default_value = "default.keelstone")]
    data_dir: PathBuf,
    /// All first members: name=url,name=url,...
    #[arg(long, default_value = "default=http://127.0.0.1:2380")]
    initial_cluster: String,
    #[arg(long, default_value = "keelstone")]
    initial_cluster_token: String,
    /// Where clients are served, as host:port.
    #[arg(long, default_value = "127.0.0.1:2379")]
    listen_client: String,
}

/// Opens the engine in `<data_dir>/engine`.
pub fn open_engine(data_dir: &std::path::Path) -> Result<Arc<dyn Engine>, Failure> {
    std::fs::create_dir_all(data_dir).map_err(|e| Failure::Usage(format!("{}: {e}", data_dir.display())))?;
    Ok(Arc::new(RocksEngine::open(data_dir.join("engine"), RocksOptions::default())?))
}

pub async fn run(arguments: StoreArguments) -> Result<(), Failure> {
    let members = InitialMember::parse_list(&arguments.initial_cluster).map_err(|e| Failure::Usage(e.to_string()))?;
    let mut config = StoreConfig::new(&arguments.name, members, &arguments.data_dir);
    config.cluster_token = arguments.initial_cluster_token;
    config.listen_client = arguments.listen_client;
    let engine = open_engine(&arguments.data_dir)?;
    let store = StoreServer::start(Env::os(), config, engine).await?;
    tracing::info!(clients = %store.client_address(), peers = %store.peer_address(), "store member serves");
    asked_to_stop().await?;
    store.shutdown().await;
    Ok(())
}
