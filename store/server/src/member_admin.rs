use keelstone_env::{channel, ChannelOptions, ClientTls, Env};
use keelstone_etcd_api::pb::{self, cluster_client::ClusterClient};
use tonic::{
    metadata::{Ascii, MetadataValue},
    service::{interceptor::InterceptedService, Interceptor},
    transport::Channel,
    Code, Request, Status,
};

use crate::StoreError;

type Client = ClusterClient<InterceptedService<Channel, WithToken>>;

/// Sends the token of a user, if there is one.
#[derive(Clone)]
struct WithToken(Option<MetadataValue<Ascii>>);

impl Interceptor for WithToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// What an operator does with a cluster's membership, from outside: through any member that answers.
pub struct MemberAdmin {
    clients: Vec<Client>,
}

/// A member that was added and is to be started now.
#[derive(Clone, Debug)]
pub struct AddedMember {
    pub id: u64,
    /// For `--initial-cluster`, with `--initial-cluster-state existing`.
    pub initial_cluster: String,
}

impl MemberAdmin {
    /// `endpoints` are client addresses, `host:port`; `token` is a user's, who needs the role `root`.
    ///
    /// # Errors
    /// If one is none, or the TLS material or the token cannot be used.
    pub fn new(
        env: &Env,
        endpoints: &[String],
        tls: Option<&ClientTls>,
        token: Option<&str>,
    ) -> Result<Self, StoreError> {
        let token = token.map(str::parse).transpose();
        let token = WithToken(token.map_err(|_| StoreError::Config("the token cannot be sent".to_owned()))?);
        let tls = tls.map(|tls| ClientTls { alpn: vec!["h2".into()], ..tls.clone() });
        let tls = tls.map(|tls| env.tls().client(&tls)).transpose();
        let tls = tls.map_err(|cause| StoreError::Tls { whom: "the client", cause })?;
        let client = |endpoint: &String| {
            let address = endpoint.trim_start_matches("http://").trim_start_matches("https://");
            let options = ChannelOptions { tls: tls.clone(), ..ChannelOptions::default() };
            let channel = channel(env, address, options);
            let client = channel.map(|channel| ClusterClient::with_interceptor(channel, token.clone()));
            client.map_err(|error| StoreError::Config(format!("{endpoint}: {error}")))
        };
        Ok(Self { clients: endpoints.iter().map(client).collect::<Result<_, _>>()? })
    }

    /// # Errors
    /// The last member's, if none answers.
    pub async fn list(&self) -> Result<Vec<pb::Member>, StoreError> {
        let request = pb::MemberListRequest { linearizable: true };
        let listed = self.ask(|mut client| async move { client.member_list(request).await }).await?;
        Ok(listed.members)
    }

    /// Finds a member by its id in hexadecimal, or by its name.
    ///
    /// # Errors
    /// If there is none, or there are several.
    pub async fn find(&self, id_or_name: &str) -> Result<pb::Member, StoreError> {
        let id = u64::from_str_radix(id_or_name, 16).ok();
        let all = self.list().await?;
        let is_meant = |member: &&pb::Member| Some(member.id) == id || member.name == id_or_name;
        let mut found = all.iter().filter(is_meant);
        match (found.next(), found.next()) {
            (Some(member), None) => Ok(member.clone()),
            (None, _) => Err(StoreError::Config(format!("the cluster has no member {id_or_name:?}"))),
            _ => Err(StoreError::Config(format!("several members are called {id_or_name:?}: give an id"))),
        }
    }

    /// Adds a member that will be started as `name`.
    ///
    /// # Errors
    /// etcd's.
    pub async fn add(&self, name: &str, peer_url: &str, is_learner: bool) -> Result<AddedMember, StoreError> {
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.member_add(request).await }
        };
        let added = self.ask(ask).await?;
        let id = added.member.map_or(0, |member| member.id);
        let entry = |member: &pb::Member| {
            let name = if member.id == id { name } else { &member.name };
            // One that has not started yet is of no use to a member that looks for the cluster.
            (!name.is_empty()).then(|| format!("{name}={}", member.peer_ur_ls.first().map_or("", String::as_str)))
        };
        let initial_cluster = added.members.iter().filter_map(entry).collect::<Vec<_>>().join(",");
        Ok(AddedMember { id, initial_cluster })
    }

    /// # Errors
    /// etcd's.
    pub async fn remove(&self, id: u64) -> Result<(), StoreError> {
        let request = pb::MemberRemoveRequest { id };
        self.ask(|mut client| async move { client.member_remove(request).await }).await.map(drop)
    }

    /// # Errors
    /// etcd's.
    pub async fn update(&self, id: u64, peer_url: &str) -> Result<(), StoreError> {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: vec![peer_url.to_owned()] };
        let ask = |mut client: Client| {
            let request = request.clone();
            async move { client.member_update(request).await }
        };
        self.ask(ask).await.map(drop)
    }

    /// # Errors
    /// etcd's.
    pub async fn promote(&self, id: u64) -> Result<(), StoreError> {
        let request = pb::MemberPromoteRequest { id };
        self.ask(|mut client| async move { client.member_promote(request).await }).await.map(drop)
    }

    /// Puts a new member in a dead one's place: under its name and, unless another is given, its peer URL. The
    /// new one is a learner until it has caught up, so that nothing is at risk meanwhile.
    ///
    /// # Errors
    /// etcd's. If the old one is removed and the new one could not be added, adding it is what is left to do.
    pub async fn replace(&self, id_or_name: &str, peer_url: Option<&str>) -> Result<AddedMember, StoreError> {
        let old = self.find(id_or_name).await?;
        let old_url = old.peer_ur_ls.first().cloned().unwrap_or_default();
        self.remove(old.id).await?;
        self.add(&old.name, peer_url.unwrap_or(&old_url), false).await
    }

    /// Asks one member after the other until one is reached. A change whose fate is unknown is not repeated.
    async fn ask<T, F, R>(&self, call: F) -> Result<T, StoreError>
    where
        F: Fn(Client) -> R,
        R: std::future::Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut last = StoreError::Config("no endpoint was given".to_owned());
        for client in &self.clients {
            match call(client.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => {
                    let reached = status.code() != Code::Unavailable || std::error::Error::source(&status).is_none();
                    last = StoreError::Refused(status.message().to_owned());
                    if reached {
                        return Err(last);
                    }
                }
            }
        }
        Err(last)
    }
}
