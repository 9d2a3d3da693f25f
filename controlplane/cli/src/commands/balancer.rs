use std::path::PathBuf;

use clap::Args;
use keelstone_env::Env;

use crate::{
    balancer::{self, BalancerConfig},
    Failure,
};

#[derive(Args)]
pub struct BalancerArguments {
    /// Where to listen, as host:port.
    #[arg(long)]
    listen: String,
    /// The masters' API servers, as host:port,host:port,...
    #[arg(long, value_delimiter = ',', required = true)]
    masters: Vec<String>,
    /// The certificate authority of the masters.
    #[arg(long)]
    ca_file: PathBuf,
}

pub async fn run(arguments: BalancerArguments) -> Result<(), Failure> {
    let ca = super::read(&arguments.ca_file)?;
    let config = BalancerConfig { listen: arguments.listen, masters: arguments.masters, ca };
    Ok(balancer::run(Env::os(), config).await?)
}
