//! `keelstone store snapshot|restore|import|export|verify|backup|member|recover`: snapshots and backups of the store,
//! its members, and the way out when their quorum is lost.

mod backup;
mod client;
mod export;
mod member;
mod recover;
mod restore;
mod snapshot;
mod verify;

use clap::Subcommand;

use crate::Failure;

#[derive(Subcommand)]
pub enum StoreTool {
    /// Saves or looks at snapshot files, which are etcd's.
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Makes the data of one member of a new cluster from a snapshot file or from a moment of a backup.
    Restore(Box<restore::RestoreArguments>),
    /// As restore, with the revisions as they are: for moving in from etcd.
    Import(Box<restore::RestoreArguments>),
    /// Writes a stopped member's data as an etcd snapshot file.
    Export(export::ExportArguments),
    /// Reads snapshot files, backups and stopped members' data, and says what is wrong and where.
    Verify(verify::VerifyArguments),
    /// Backs a running store up to a folder until it is stopped.
    Backup(backup::BackupArguments),
    /// Lists, adds, removes, moves, promotes and replaces members of a running store.
    Member(member::MemberArguments),
    /// Makes one member of a store whose quorum is lost for good the first of a new one, with all its data. It must be
    /// stopped. Without --yes it is said what may be lost and nothing is changed.
    Recover(recover::RecoverArguments),
}

pub async fn run(tool: StoreTool) -> Result<(), Failure> {
    match tool {
        StoreTool::Snapshot(command) => snapshot::run(command).await,
        StoreTool::Restore(arguments) => restore::run(*arguments, restore::Revisions::NewEpoch).await,
        StoreTool::Import(arguments) => restore::run(*arguments, restore::Revisions::Kept).await,
        StoreTool::Export(arguments) => export::run(&arguments).await,
        StoreTool::Verify(arguments) => verify::run(arguments).await,
        StoreTool::Backup(arguments) => backup::run(arguments).await,
        StoreTool::Member(arguments) => member::run(arguments).await,
        StoreTool::Recover(arguments) => recover::run(arguments).await,
    }
}

/// A member has no name before its first start.
fn named(name: &str) -> &str {
    match name {
        "" => "(not started)",
        name => name,
    }
}
