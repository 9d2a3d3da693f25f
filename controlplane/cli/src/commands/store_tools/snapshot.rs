use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use keelstone_backup::etcd::{save, status, EtcdFile, SnapshotStatus};
use keelstone_env::Env;

use super::{client::ClientFlags, restore};
use crate::Failure;

#[derive(Subcommand)]
pub enum SnapshotCommand {
    /// Saves a snapshot of a running store in a file.
    Save(SaveArguments),
    /// Reads and checks a file, and says what it holds.
    Status(StatusArguments),
    /// The same as `store restore`.
    Restore(Box<restore::RestoreArguments>),
}

#[derive(Args)]
pub struct SaveArguments {
    file: PathBuf,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Args)]
pub struct StatusArguments {
    file: PathBuf,
    #[arg(short, long, value_enum, default_value_t = Form::Simple)]
    write_out: Form,
    /// Accept a file without a checksum, as a copied database is.
    #[arg(long)]
    skip_hash_check: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Simple,
    Json,
}

pub async fn run(command: SnapshotCommand) -> Result<(), Failure> {
    let env = Env::os();
    match command {
        SnapshotCommand::Save(arguments) => {
            let source = arguments.client.source(&env).await?;
            let status = save(&env, &source, &arguments.file).await?;
            println!("snapshot of revision {} saved at {}", status.revision, arguments.file.display());
        }
        SnapshotCommand::Status(arguments) => {
            let (file, skip) = (arguments.file, arguments.skip_hash_check);
            let disk = std::sync::Arc::clone(env.disk());
            let found = env.offload(move || status(&EtcdFile::open(&*disk, &file, skip)?)).await?;
            println!("{}", text(found, arguments.write_out)?);
        }
        SnapshotCommand::Restore(arguments) => {
            restore::run(*arguments, restore::Revisions::NewEpoch).await?;
        }
    }
    Ok(())
}

/// In etcdctl's forms.
fn text(status: SnapshotStatus, form: Form) -> Result<String, Failure> {
    Ok(match form {
        Form::Json => serde_json::to_string(&status)?,
        Form::Simple => {
            let SnapshotStatus { hash, revision, total_key, total_size } = status;
            format!("{hash:x}, {revision}, {total_key}, {total_size} bytes")
        }
    })
}
