use std::{path::PathBuf, sync::Arc};

use clap::Args;
use keelstone_apiserver::{ApiServer, ApiServerConfig, ServiceCidr};
use keelstone_env::{ClientTls, Env};
use keelstone_store_client::{GrpcKv, GrpcKvOptions};

use super::{asked_to_stop, perturbation, read, PkiFolder};
use crate::Failure;

#[derive(Args)]
pub struct ApiserverArguments {
    /// This API server's name; unique among those on one store.
    #[arg(long)]
    name: String,
    /// ca.crt, sa.key, NAME.crt/.key, kubelet-client.crt/.key.
    #[arg(long)]
    pki_dir: PathBuf,
    /// Where the API is served, as host:port.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: String,
    /// The members of the store, or of an etcd: host:port,...
    #[arg(long, value_delimiter = ',', required = true)]
    etcd_servers: Vec<String>,
    /// The authority of the store's certificates; without it the store is reached in plaintext.
    #[arg(long)]
    etcd_ca_file: Option<PathBuf>,
    #[arg(long)]
    etcd_cert_file: Option<PathBuf>,
    #[arg(long)]
    etcd_key_file: Option<PathBuf>,
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cluster_ip_range: String,
    /// A plan of whose requests are disturbed on purpose (docs/verification.md).
    #[arg(long)]
    perturbation: Option<PathBuf>,
}

pub async fn run(arguments: ApiserverArguments) -> Result<(), Failure> {
    let env = Env::os();
    let pki = PkiFolder(&arguments.pki_dir);
    let mut config = ApiServerConfig::new(&arguments.name, &pki.text("sa.key")?);
    let (host, _) = crate::probe::split(&arguments.listen).map_err(|e| Failure::Usage(e.to_string()))?;
    config.advertise_host = host.to_owned();
    config.listen = Some(arguments.listen.clone());
    config.tls = Some(pki.server(&arguments.name, "ca", false)?);
    config.node_client = Some(pki.client("kubelet-client", "ca")?);
    config.service_cidr = ServiceCidr::parse(&arguments.service_cluster_ip_range).map_err(Failure::Usage)?;
    config.perturbation = perturbation(arguments.perturbation.as_deref())?;
    let mut store = GrpcKvOptions::new(arguments.etcd_servers.clone());
    store.tls = store_tls(&arguments)?;
    let kv = Arc::new(GrpcKv::new(&env, store)?);
    let server = ApiServer::start(env, config, kv).await?;
    tracing::info!(api = server.address(), "API server serves");
    asked_to_stop().await?;
    server.shutdown().await;
    Ok(())
}

fn store_tls(arguments: &ApiserverArguments) -> Result<Option<ClientTls>, Failure> {
    let Some(ca) = &arguments.etcd_ca_file else { return Ok(None) };
    let identity = match (&arguments.etcd_cert_file, &arguments.etcd_key_file) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        (None, None) => None,
        _ => return Err(Failure::Usage("--etcd-cert-file and --etcd-key-file go together".into())),
    };
    Ok(Some(ClientTls { ca: read(ca)?, identity, alpn: vec!["h2".into()] }))
}
