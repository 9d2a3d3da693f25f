//! How this member reaches the others: one connection to each, shared by all that speak to it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use keelstone_env::{following_connector, ChannelOptions, ClientTls, Env, TlsConnector, TlsFiles};
use tonic::{
    metadata::MetadataValue,
    service::{interceptor::InterceptedService, Interceptor},
    transport::Channel,
    Request, Status,
};

use crate::{constants::MESSAGE_BYTES_MAX, peer::peer_client::PeerClient, RaftConfig};

/// Whom a call is for: cluster id and member id. A call that reached the wrong one is refused.
pub(crate) const CLUSTER_HEADER: &str = "keelstone-cluster";
pub(crate) const MEMBER_HEADER: &str = "keelstone-member";

pub(crate) type Client = PeerClient<InterceptedService<Channel, Address>>;

/// Writes whom a call is for onto it.
#[derive(Clone)]
pub(crate) struct Address {
    cluster: u64,
    member: u64,
}

impl Interceptor for Address {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(CLUSTER_HEADER, MetadataValue::from(self.cluster));
        request.metadata_mut().insert(MEMBER_HEADER, MetadataValue::from(self.member));
        Ok(request)
    }
}

/// The connections. Clones share them.
#[derive(Clone)]
pub(crate) struct Peers {
    env: Env,
    cluster: u64,
    tls: Option<Arc<dyn TlsConnector>>,
    /// By member and address: a member that moved gets a new one.
    clients: Arc<Mutex<BTreeMap<u64, (String, Client)>>>,
}

impl Peers {
    pub(crate) fn new(env: &Env, config: &RaftConfig) -> io::Result<Self> {
        Self::of(env, config.cluster_id, config.peer_tls.as_ref(), config.peer_tls_files.as_ref())
    }

    /// The members of `cluster`; `files` is where `tls` comes from, if from files.
    pub(crate) fn of(env: &Env, cluster: u64, tls: Option<&ClientTls>, files: Option<&TlsFiles>) -> io::Result<Self> {
        let tls = tls.map(|tls| following_connector(env, tls, files)).transpose()?;
        Ok(Self { env: env.clone(), cluster, tls, clients: Arc::default() })
    }

    /// The client for `member` at `address`, which connects when it is first used and again when it must.
    pub(crate) fn client(&self, member: u64, address: &str) -> io::Result<Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = clients.get(&member) {
            if known == address {
                return Ok(client.clone());
            }
        }
        let options = ChannelOptions {
            tls: self.tls.clone(),
            connect_timeout: Duration::from_millis(500),
            keep_alive_interval: Duration::from_millis(500),
            keep_alive_timeout: Duration::from_secs(1),
            ..ChannelOptions::default()
        };
        let channel = keelstone_env::channel(&self.env, address, options)?;
        let client = PeerClient::with_interceptor(channel, Address { cluster: self.cluster, member })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        clients.insert(member, (address.to_owned(), client.clone()));
        Ok(client)
    }
}

/// True if the call certainly never left this member: no connection could be made.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
