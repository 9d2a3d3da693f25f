use std::{path::PathBuf, sync::Arc};

use clap::Args;
use keelstone_backup::{
    archive::MvccSource,
    etcd::{save, status, About, EtcdFile},
};
use keelstone_env::Env;
use keelstone_mvcc::{Mvcc, MvccOptions};

use crate::{commands::store::open_engine, Failure};

#[derive(Args)]
pub struct ExportArguments {
    /// The stopped member's data.
    #[arg(long)]
    data_dir: PathBuf,
    /// The file to write; must not exist.
    file: PathBuf,
}

/// What a stopped member has in its engine. After a crash the log may hold more: start and stop it first.
pub async fn run(arguments: &ExportArguments) -> Result<(), Failure> {
    let env = Env::os();
    if !env.disk().exists(&arguments.data_dir.join("engine")) {
        return Err(Failure::Usage(format!("{} holds no engine", arguments.data_dir.display())));
    }
    let engine = open_engine(&arguments.data_dir)?;
    let mvcc = Arc::new(env.offload(move || Mvcc::open(engine, MvccOptions::default())).await?);
    let about = About { cluster_version: "3.5.0".into(), ..About::default() };
    let source = MvccSource::new(env.clone(), mvcc, 0, about);
    let written = save(&env, &source, &arguments.file).await?;
    println!("revision {} and {} rows written to {}", written.revision, written.total_key, arguments.file.display());
    // Read as anybody else would.
    status(&EtcdFile::open(&**env.disk(), &arguments.file, false)?)?;
    Ok(())
}
