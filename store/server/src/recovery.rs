//! A member that goes on alone; see [`keelstone_raft::recover`].

use std::{path::Path, sync::Arc};

use keelstone_engine::Engine;
use keelstone_env::Env;
use keelstone_mvcc::{Mvcc, MvccOptions};
use keelstone_raft::Recovery;

use crate::StoreError;

/// Says what [`recover`] would start from, and changes nothing.
///
/// # Errors
/// If the folder is in use, holds no member's data, or cannot be read.
pub async fn plan_recovery(env: &Env, data_dir: &Path, engine: Arc<dyn Engine>) -> Result<Recovery, StoreError> {
    let mvcc = open(env, engine).await?;
    Ok(keelstone_raft::plan_recovery(env, data_dir, &mvcc).await?)
}

/// Makes the stopped member whose data lies in `data_dir` and `engine` the only one of a new cluster.
///
/// # Errors
/// As [`plan_recovery`]; if the disk fails half-way it can be repeated.
pub async fn recover(env: &Env, data_dir: &Path, engine: Arc<dyn Engine>) -> Result<Recovery, StoreError> {
    let mvcc = open(env, engine).await?;
    Ok(keelstone_raft::recover(env, data_dir, &mvcc).await?)
}

async fn open(env: &Env, engine: Arc<dyn Engine>) -> Result<Mvcc, StoreError> {
    Ok(env.offload(move || Mvcc::open(engine, MvccOptions::default())).await?)
}
