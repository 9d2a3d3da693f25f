use clap::{Args, Subcommand};
use keelstone_env::Env;
use keelstone_store_server::{AddedMember, MemberAdmin};

use super::client::ClientFlags;
use crate::Failure;

#[derive(Args)]
pub struct MemberArguments {
    #[command(flatten)]
    client: ClientFlags,
    #[command(subcommand)]
    command: MemberCommand,
}

/// A member is named by its id in hexadecimal or by its name.
#[derive(Subcommand)]
enum MemberCommand {
    /// Lists the members: id, name, role, peer URLs, client URLs.
    List,
    /// Adds a member, which is to be started afterwards; it votes once it has caught up.
    Add {
        name: String,
        peer_url: String,
        /// It stays a learner until somebody promotes it, where members do not do so by themselves.
        #[arg(long)]
        learner: bool,
    },
    /// Removes a member for good.
    Remove { member: String },
    /// Says where a member is reached from now on.
    Update { member: String, peer_url: String },
    /// Gives a learner that has caught up its vote.
    Promote { member: String },
    /// Puts a new member with an empty folder in a dead one's place.
    Replace {
        member: String,
        /// Where the new one is reached, if not where the dead one was.
        #[arg(long)]
        peer_url: Option<String>,
    },
}

pub async fn run(arguments: MemberArguments) -> Result<(), Failure> {
    let env = Env::os();
    let reached = arguments.client.connection(&env).await?;
    let admin = MemberAdmin::new(&env, &reached.endpoints, reached.tls.as_ref(), reached.token.as_deref())?;
    match arguments.command {
        MemberCommand::List => {
            for member in admin.list().await? {
                let role = if member.is_learner { "learner" } else { "voter" };
                let (name, peers) = (super::named(&member.name), member.peer_ur_ls.join(" "));
                println!("{:x}\t{name}\t{role}\t{peers}\t{}", member.id, member.client_ur_ls.join(" "));
            }
        }
        MemberCommand::Add { name, peer_url, learner } => say(&name, &admin.add(&name, &peer_url, learner).await?),
        MemberCommand::Remove { member } => {
            let id = admin.find(&member).await?.id;
            admin.remove(id).await?;
            println!("removed {id:x}");
        }
        MemberCommand::Update { member, peer_url } => {
            let id = admin.find(&member).await?.id;
            admin.update(id, &peer_url).await?;
            println!("updated {id:x}");
        }
        MemberCommand::Promote { member } => {
            let id = admin.find(&member).await?.id;
            admin.promote(id).await?;
            println!("promoted {id:x}");
        }
        MemberCommand::Replace { member, peer_url } => {
            let name = admin.find(&member).await?.name;
            say(&name, &admin.replace(&member, peer_url.as_deref()).await?);
        }
    }
    Ok(())
}

fn say(name: &str, added: &AddedMember) {
    println!("added {:x}; start it with an empty folder and", added.id);
    println!("--name {name} --initial-cluster {} --initial-cluster-state existing", added.initial_cluster);
}
