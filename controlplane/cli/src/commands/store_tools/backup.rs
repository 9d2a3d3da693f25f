use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use keelstone_backup::{
    archive::{read_progress, Folder, Progress, Recorder, RecorderOptions},
    constants::{FULLS_KEPT, FULL_INTERVAL},
};
use keelstone_env::Env;
use tokio::sync::watch;

use super::client::ClientFlags;
use crate::{commands::asked_to_stop, Failure};

#[derive(Args)]
pub struct BackupArguments {
    /// The backup's folder; made if it is missing, gone on with if it is there.
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    policy: BackupPolicy,
    /// Take one full backup and end.
    #[arg(long)]
    once: bool,
    /// Say how far the backup in the folder is, and end.
    #[arg(long, conflicts_with = "once")]
    status: bool,
}

/// What is kept of a backup.
#[derive(Args)]
pub struct BackupPolicy {
    /// Full backups that are kept, with all changes since the oldest of them.
    #[arg(id = "backup_keep", long = "keep", default_value_t = FULLS_KEPT)]
    keep: usize,
    /// Seconds between full backups.
    #[arg(id = "backup_full_interval_s", long = "full-interval-s", default_value_t = FULL_INTERVAL.as_secs())]
    full_interval_s: u64,
}

impl BackupPolicy {
    pub fn options(&self, dir: &std::path::Path) -> RecorderOptions {
        RecorderOptions {
            keep: self.keep,
            full_interval: Duration::from_secs(self.full_interval_s),
            ..RecorderOptions::new(dir)
        }
    }
}

/// How often the progress of a backup is told.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

pub async fn run(arguments: BackupArguments) -> Result<(), Failure> {
    let env = Env::os();
    if arguments.status {
        let said = read_progress(&Folder::new(&env, &arguments.dir))?;
        let said = said.ok_or_else(|| Failure::Failed(format!("{} holds no backup", arguments.dir.display())))?;
        println!("{}", text(&env, &said));
        return Ok(());
    }
    let source = Arc::new(arguments.client.source(&env).await?);
    let options = arguments.policy.options(&arguments.dir);
    let recorder = Recorder::new(env.clone(), source, options)?;
    if arguments.once {
        println!("full backup of revision {}", recorder.full_once().await?);
        return Ok(());
    }
    let telling = env.spawn(tell(env.clone(), recorder.progress()));
    let stop = async {
        if let Err(Failure::Usage(error) | Failure::Failed(error)) = asked_to_stop().await {
            tracing::error!(error, "signals cannot be waited for");
        }
    };
    let ended = recorder.run(stop).await;
    telling.abort();
    Ok(ended?)
}

async fn tell(env: Env, mut progress: watch::Receiver<Progress>) {
    loop {
        let said = progress.borrow_and_update().clone();
        if said.revision > 0 {
            tracing::info!("{}", text(&env, &said));
        }
        tokio::time::sleep(TELL_INTERVAL).await;
    }
}

fn text(env: &Env, said: &Progress) -> String {
    let now_ms = u64::try_from(env.unix_time_s()).unwrap_or(0) * 1000;
    let behind_s = now_ms.saturating_sub(said.unix_ms) / 1000;
    let (revision, behind) = (said.revision, said.behind_revisions());
    let error = said.error.as_ref().map(|error| format!("; the store does not answer: {error}")).unwrap_or_default();
    format!("complete up to revision {revision}, {behind} revisions behind, complete {behind_s} s ago{error}")
}
