use std::path::PathBuf;

use clap::Args;
use keelstone_backup::archive::{GrpcSource, GrpcSourceOptions};
use keelstone_env::{ClientTls, Env};
use keelstone_etcd_api::pb::{self, auth_client::AuthClient};

use crate::{commands::read, Failure};

/// How a running store is reached; flags as etcdctl's.
#[derive(Args)]
pub struct ClientFlags {
    /// The members' client addresses, host:port,... (with or without http:// or https://).
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379", env = "ETCDCTL_ENDPOINTS")]
    endpoints: Vec<String>,
    /// The authority of the members' certificates; TLS is used if it is given.
    #[arg(long, env = "ETCDCTL_CACERT")]
    cacert: Option<PathBuf>,
    #[arg(long, requires = "key", env = "ETCDCTL_CERT")]
    cert: Option<PathBuf>,
    #[arg(long, requires = "cert", env = "ETCDCTL_KEY")]
    key: Option<PathBuf>,
    /// name:password, for a store with users.
    #[arg(long, env = "ETCDCTL_USER")]
    user: Option<String>,
}

/// What the flags say, with a token for the user.
pub struct Connection {
    pub endpoints: Vec<String>,
    pub tls: Option<ClientTls>,
    pub token: Option<String>,
}

impl ClientFlags {
    pub async fn source(&self, env: &Env) -> Result<GrpcSource, Failure> {
        let Connection { endpoints, tls, token } = self.connection(env).await?;
        GrpcSource::new(env, GrpcSourceOptions { endpoints, tls, token })
            .map_err(|error| Failure::Usage(format!("--endpoints: {error}")))
    }

    pub async fn connection(&self, env: &Env) -> Result<Connection, Failure> {
        let bare = |endpoint: &String| {
            let endpoint = endpoint.trim();
            endpoint.strip_prefix("https://").or(endpoint.strip_prefix("http://")).unwrap_or(endpoint).to_owned()
        };
        let endpoints: Vec<String> = self.endpoints.iter().map(bare).collect();
        let tls = match &self.cacert {
            None => None,
            Some(ca) => {
                let identity = match (&self.cert, &self.key) {
                    (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
                    _ => None,
                };
                Some(ClientTls { ca: read(ca)?, identity, alpn: vec!["h2".into()] })
            }
        };
        let token = match &self.user {
            Some(user) => Some(self.token(env, &endpoints[0], tls.as_ref(), user).await?),
            None => None,
        };
        Ok(Connection { endpoints, tls, token })
    }

    async fn token(&self, env: &Env, endpoint: &str, tls: Option<&ClientTls>, user: &str) -> Result<String, Failure> {
        let Some((name, password)) = user.split_once(':') else {
            return Err(Failure::Usage("--user is name:password".into()));
        };
        let tls = tls.map(|tls| env.tls().client(tls)).transpose()?;
        let options = keelstone_env::ChannelOptions { tls, ..Default::default() };
        let channel = keelstone_env::channel(env, endpoint, options)?;
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        Ok(AuthClient::new(channel).authenticate(request).await?.into_inner().token)
    }
}
