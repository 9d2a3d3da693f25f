use std::sync::Arc;

use keelstone_backup::BackupError;
use keelstone_engine::Engine;
use keelstone_env::Env;
use keelstone_mvcc::{Applied, Mvcc, MvccOptions};

use crate::{identity, StoreConfig, StoreError};

/// Makes the data of one first member of a NEW cluster: `fill` puts the state into the empty store, at the
/// place in the new log that it is given. Each first member is made in this way, from the same source and with
/// the same `initial_cluster` and `cluster_token`; started afterwards, they form the cluster.
///
/// # Errors
/// If the configuration is wrong, `config.data_dir` or `engine` already hold something, or `fill` fails; the
/// folder is then good for nothing.
pub async fn restore_member<T: Send + 'static>(
    env: &Env,
    config: &StoreConfig,
    engine: Arc<dyn Engine>,
    fill: impl FnOnce(&Mvcc, Applied) -> Result<T, BackupError> + Send + 'static,
) -> Result<T, StoreError> {
    let identity = identity::derive(config)?;
    let mvcc = env.offload(move || Mvcc::open(engine, MvccOptions::default())).await?;
    if !mvcc.applied().log_id.is_empty() {
        return Err(StoreError::Config("the engine's folder already holds a store".into()));
    }
    let place = keelstone_raft::seed_log(env, &config.data_dir, identity.member_id, identity.members).await?;
    Ok(env.offload(move || fill(&mvcc, place)).await?)
}
