use std::sync::Arc;

use clap::{Args, Parser};
use keelstone_engine::Engine;
use keelstone_engine_rocks::{RocksEngine, RocksOptions};

use super::store_tools::{self, StoreTool};
use crate::Failure;

#[derive(Args)]
pub struct StoreArguments {
    /// etcd's flags; `keelstone store --help` lists them, `keelstone store help` the tools.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// Snapshots and backups of the store. Without one of these, `keelstone store` runs a member with etcd's flags.
#[derive(Parser)]
#[command(name = "keelstone store", bin_name = "keelstone store")]
struct ToolArguments {
    #[command(subcommand)]
    tool: StoreTool,
}

impl StoreArguments {
    /// A member has flags alone; what is no flag names a tool.
    pub fn names_a_tool(&self) -> bool {
        self.arguments.first().is_some_and(|first| !first.starts_with('-'))
    }
}

/// Runs the tool that the arguments name.
pub async fn run_tool(arguments: StoreArguments) -> Result<(), Failure> {
    let program = std::iter::once("keelstone store".to_owned());
    store_tools::run(ToolArguments::parse_from(program.chain(arguments.arguments)).tool).await
}

/// Opens the engine in `<data_dir>/engine`.
pub fn open_engine(data_dir: &std::path::Path) -> Result<Arc<dyn Engine>, Failure> {
    std::fs::create_dir_all(data_dir).map_err(|e| Failure::Usage(format!("{}: {e}", data_dir.display())))?;
    Ok(Arc::new(RocksEngine::open(data_dir.join("engine"), RocksOptions::default())?))
}
