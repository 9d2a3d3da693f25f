use std::sync::Arc;

use clap::Args;
use keelstone_engine::Engine;
use keelstone_engine_rocks::{RocksEngine, RocksOptions};

use crate::Failure;

#[derive(Args)]
pub struct StoreArguments {
    /// etcd's flags; `keelstone store --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// Opens the engine in `<data_dir>/engine`.
pub fn open_engine(data_dir: &std::path::Path) -> Result<Arc<dyn Engine>, Failure> {
    std::fs::create_dir_all(data_dir).map_err(|e| Failure::Usage(format!("{}: {e}", data_dir.display())))?;
    Ok(Arc::new(RocksEngine::open(data_dir.join("engine"), RocksOptions::default())?))
}
