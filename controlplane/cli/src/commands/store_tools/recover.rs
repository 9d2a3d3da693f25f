use std::{path::PathBuf, sync::Arc};

use clap::Args;
use keelstone_env::Env;
use keelstone_store_server::{plan_recovery, recover, Recovery};

use crate::{commands::store::open_engine, Failure};

#[derive(Args)]
pub struct RecoverArguments {
    /// The folder of the member that goes on: of those that are left, the one with the highest last entry.
    #[arg(long)]
    data_dir: PathBuf,
    /// Do it. Without, it is said what may be lost and nothing is changed.
    #[arg(long)]
    yes: bool,
}

pub async fn run(arguments: RecoverArguments) -> Result<(), Failure> {
    let (env, data_dir) = (Env::os(), arguments.data_dir);
    // A master has its log and its engine in two folders; a member of the store alone in one.
    let log_dir =
        [data_dir.join("store"), data_dir.clone()].into_iter().find(|dir| env.disk().exists(&dir.join("wal")));
    let Some(log_dir) = log_dir else {
        return Err(Failure::Usage(format!("{} holds no member's data", data_dir.display())));
    };
    let in_use = |(Failure::Usage(error) | Failure::Failed(error))| {
        let dir = data_dir.display();
        Failure::Failed(format!("{dir} cannot be opened; is it in use by a member that runs? {error}"))
    };
    let engine = open_engine(&data_dir).map_err(in_use)?;
    let found = match arguments.yes {
        true => recover(&env, &log_dir, Arc::clone(&engine)).await?,
        false => plan_recovery(&env, &log_dir, Arc::clone(&engine)).await?,
    };
    say(&found);
    match arguments.yes {
        true => println!("done: start this member as before, and add others with empty folders"),
        false => println!("nothing was changed; --yes does it"),
    }
    Ok(())
}

fn say(found: &Recovery) {
    println!("member {:x} of cluster {:x}", found.member_id, found.cluster_id);
    println!("last entry {}, known to be committed up to {}", found.last_index, found.committed_index);
    for (id, name) in &found.left_behind {
        println!("left behind: {id:x} {}", super::named(name));
    }
    println!("LOST: whatever the cluster acknowledged after entry {}. Clients may have seen it.", found.last_index);
    if found.committed_index < found.last_index {
        let first = found.committed_index + 1;
        println!("Entries {first} to {} may never have been acknowledged; they are kept.", found.last_index);
    }
}
