//! One API server on its own, for trying it with kubectl: `apiserver [etcd-host:port]`. Without an etcd its
//! objects are kept in memory. Writes a kubeconfig of a cluster administrator and prints its path.

use std::{error::Error, net::IpAddr, path::PathBuf, sync::Arc};

use keelstone_apiserver::{ApiServer, ApiServerConfig};
use keelstone_env::{Env, ServerTls};
use keelstone_storage::testing::MemoryKv;
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};

const LISTEN: &str = "127.0.0.1:0";
const READY_POLL_MS: u64 = 50;

/// A certificate and its key, as PEM.
struct Signed {
    certificate: String,
    key: String,
}

fn named(common_name: &str, organization: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if !organization.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params
}

fn sign(mut params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<Signed, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(Signed { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
    let env = Env::os();
    let kv: Arc<dyn EtcdKv> = match std::env::args().nth(1) {
        Some(endpoint) => Arc::new(GrpcKv::new(&env, GrpcKvOptions::new(vec![endpoint]))?),
        None => MemoryKv::new(),
    };
    let ca_key = KeyPair::generate()?;
    let mut ca = named("example-ca", "");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let mut server = named("kube-apiserver", "");
    server.subject_alt_names = vec![SanType::IpAddress(IpAddr::from([127, 0, 0, 1]))];
    let server = sign(server, &issuer)?;
    let admin = sign(named("kubernetes-admin", "system:masters"), &issuer)?;

    let mut config = ApiServerConfig::new("m1", &KeyPair::generate()?.serialize_pem());
    config.listen = Some(LISTEN.into());
    config.tls = Some(ServerTls {
        certificate: server.certificate,
        key: server.key,
        client_ca: Some(ca_pem.clone()),
        client_certificate_required: false,
        alpn: vec!["h2".into(), "http/1.1".into()],
    });
    config.static_tokens = "alice-token,alice,1,\"dev\"\n".into();
    let running = ApiServer::start(env.clone(), config, kv).await?;
    while !running.is_ready().await {
        tokio::time::sleep(std::time::Duration::from_millis(READY_POLL_MS)).await;
    }
    let address = running.address().unwrap_or_default();
    let path = PathBuf::from(std::env::var("EXAMPLE_KUBECONFIG").unwrap_or_else(|_| "kubeconfig".into()));
    env.disk().write_atomically(&path, kubeconfig(address, &ca_pem, &admin).as_bytes())?;
    println!("ready: export KUBECONFIG={}", path.display());
    std::future::pending::<()>().await;
    Ok(())
}

fn kubeconfig(address: &str, ca: &str, admin: &Signed) -> String {
    let data = |pem: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(pem)
    };
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: example\nclusters:\n- name: example\n  cluster:\n    server: https://{address}\n    certificate-authority-data: {}\ncontexts:\n- name: example\n  context: {{cluster: example, user: admin}}\nusers:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n- name: alice\n  user: {{token: alice-token}}\n",
        data(ca),
        data(&admin.certificate),
        data(&admin.key)
    )
}
