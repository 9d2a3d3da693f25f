use std::{sync::atomic::Ordering::Relaxed, sync::Arc};

use keelstone_engine::Engine;
use keelstone_env::{following_acceptor, incoming, Env, Listener, ServerTls, TlsAcceptor, TlsFiles};
use keelstone_etcd_api::pb;
use keelstone_mvcc::{Mvcc, MvccOptions};
use keelstone_raft::{RaftConfig, RaftNode};
use tokio::task::JoinHandle;
use tonic::transport::Server;

use crate::{
    auth::Authenticator,
    auto_compaction,
    client_listener::ClientListener,
    constants::*,
    grpc::Services,
    identity,
    member::{Member, ServiceLimits},
    metered::{MeteredDisk, MeteredEngine, MeteredListener, MeteredNet, Meters},
    quorum, retention,
    running::RunningStore,
    space, StoreConfig, StoreError,
};

/// Starts members of the store.
pub struct StoreServer;

impl StoreServer {
    /// Opens the state, joins the log and serves. Returns when the listeners accept; a leader may not be
    /// elected yet.
    ///
    /// # Errors
    /// If the configuration is wrong, an address cannot be listened on, TLS material cannot be used, or what
    /// lies on the disk is damaged.
    pub async fn start(env: Env, config: StoreConfig, engine: Arc<dyn Engine>) -> Result<RunningStore, StoreError> {
        let meters = Arc::<Meters>::default();
        let engine: Arc<dyn Engine> = Arc::new(MeteredEngine { engine, meters: Arc::clone(&meters) });
        let identity = identity::resolve(&env, &config).await?;
        let tls = TlsSides::prepare(&env, &config)?;
        let auth = Authenticator::new(&env, &config)?;
        let client = listen(&env, &config.listen_client).await?;
        let peer = listen(&env, &config.listen_peer).await?;
        let metrics = match &config.listen_metrics {
            Some(address) => Some(listen(&env, address).await?),
            None => None,
        };
        let mut more = Vec::new();
        for wanted in &config.more_listeners {
            more.push((wanted.clone(), listen(&env, &wanted.address).await?));
        }
        let (client_address, client_port) = (client.address(), client.port());
        let peer_address = peer.address();

        let options = MvccOptions {
            env: Some(env.clone()),
            quota_bytes: config.quota_bytes,
            watch_window_events_max: config.watch_window_events_max,
            watch_batch_events_max: config.watch_batch_events_max,
        };
        let mvcc = Arc::new(env.offload(move || Mvcc::open(engine, options)).await?);
        let mut raft_config =
            RaftConfig::new(identity.member_id, identity.cluster_id, &config.data_dir, identity.members.clone());
        raft_config.bootstrap = identity.forms;
        raft_config.name = config.name.clone();
        raft_config.client_urls = advertised(&config, &client_address, client_port);
        raft_config.promote_learners = config.promote_learners;
        raft_config.level = config.feature_level;
        raft_config.timing = config.timing;
        raft_config.timing.request_max = config.request_time_max();
        raft_config.limits = config.limits;
        raft_config.peer_tls = config.peer_tls.as_ref().map(|tls| tls.client.clone());
        raft_config.peer_tls_files = config.peer_tls_files.clone();
        let raft = RaftNode::start(metered(&env, &meters), raft_config, Arc::clone(&mvcc)).await?;

        let ids = (identity.cluster_id, identity.member_id);
        let counted = (Arc::clone(&meters), auth);
        let member = Arc::new(Member::new(env.clone(), mvcc, raft, ids, limits(&config), counted));

        let counted = |listener| Box::new(MeteredListener { listener, traffic: Arc::clone(&meters.clients) });
        let services = Services::new(Arc::clone(&member));
        let mut serving = Vec::new();
        let listener = ClientListener::new(Arc::clone(&member), Some(services.clone()));
        let client_tls = tls.client.clone().filter(|_| config.listen_client_tls);
        serving.push(env.spawn(listener.clone().run(counted(client), client_tls)));
        if let Some(metrics) = metrics {
            serving.push(env.spawn(ClientListener::new(Arc::clone(&member), None).run(metrics, None)));
        }
        for (wanted, bound) in more {
            let listener = match wanted.metrics_only {
                true => ClientListener::new(Arc::clone(&member), None),
                false => listener.clone(),
            };
            serving.push(env.spawn(listener.run(counted(bound), tls.client.clone().filter(|_| wanted.tls))));
        }
        let peer = Box::new(MeteredListener { listener: peer, traffic: Arc::clone(&meters.peers) });
        let peer_server = serve_peers(&env, &member, peer, tls.peer_server);
        let mut background = vec![
            env.spawn(follow_condition(Arc::clone(&member))),
            env.spawn(count_leader_changes(Arc::clone(&member))),
            env.spawn(quorum::probe(Arc::clone(&member))),
            env.spawn(compact_in_background(Arc::clone(&member))),
            env.spawn(space::watch(Arc::clone(&member))),
        ];
        if let Some(retention) = config.history_retention {
            background.push(env.spawn(retention::note_moments(Arc::clone(&member), retention)));
        }
        if let Some(options) = config.backup.clone() {
            background.push(env.spawn(crate::backup::keep(Arc::clone(&member), options)));
        }
        if let Some(mode) = config.auto_compaction {
            background.push(env.spawn(auto_compaction::run(Arc::clone(&member), mode)));
        }
        tracing::info!(
            member = format!("{:x}", ids.1), cluster = format!("{:x}", ids.0), name = %config.name,
            client = %client_address, peer = %peer_address, "store member started"
        );
        Ok(RunningStore { member, client_address, peer_address, serving, peer_server, background })
    }
}

/// The world of the log, measured.
fn metered(env: &Env, meters: &Arc<Meters>) -> Env {
    let disk = MeteredDisk { disk: Arc::clone(env.disk()), meters: Arc::clone(meters) };
    let net = MeteredNet { net: Arc::clone(env.net()), traffic: Arc::clone(&meters.peers) };
    env.with_disk(Arc::new(disk)).with_net(Arc::new(net))
}

/// The TLS configurations, read once.
struct TlsSides {
    client: Option<Arc<dyn TlsAcceptor>>,
    peer_server: Option<Arc<dyn TlsAcceptor>>,
}

impl TlsSides {
    fn prepare(env: &Env, config: &StoreConfig) -> Result<Self, StoreError> {
        let acceptor = |whom, tls: &ServerTls, files: &Option<TlsFiles>, alpn: &[&str]| {
            let alpn = alpn.iter().map(|name| (*name).to_owned()).collect();
            let tls = ServerTls { alpn, ..tls.clone() };
            following_acceptor(env, &tls, files.as_ref()).map_err(|cause| StoreError::Tls { whom, cause })
        };
        let client = config.client_tls.as_ref();
        let client =
            client.map(|tls| acceptor("the client listener", tls, &config.client_tls_files, &["h2", "http/1.1"]));
        let peer = config.peer_tls.as_ref();
        let peer_server = peer.map(|tls| acceptor("the peer listener", &tls.server, &config.peer_tls_files, &["h2"]));
        Ok(Self { client: client.transpose()?, peer_server: peer_server.transpose()? })
    }
}

async fn listen(env: &Env, address: &str) -> Result<Box<dyn Listener>, StoreError> {
    let bound = env.net().bind(address).await;
    bound.map_err(|cause| StoreError::Listen { address: address.to_owned(), cause })
}

fn limits(config: &StoreConfig) -> ServiceLimits {
    ServiceLimits {
        // The log's own bound comes first; this one is for what waits outside of it.
        request_time_max: config.request_time_max() + REQUEST_GRACE,
        election_max: config.timing.election_timeout(),
        lease_ttl_s_min: config.lease_ttl_s_min(),
        txn_ops_max: config.txn_ops_max,
        request_bytes_max: config.request_bytes_max,
        quota_bytes: config.quota_bytes,
        history_retention: config.history_retention,
        watch_progress_interval: config.watch_progress_interval,
    }
}

fn advertised(config: &StoreConfig, client_address: &str, client_port: u16) -> Vec<String> {
    if !config.advertise_client_urls.is_empty() {
        return config.advertise_client_urls.clone();
    }
    let scheme = if config.client_tls.is_some() { "https" } else { "http" };
    // The host as it was asked for: a name in a certificate, where the bound address would be a number.
    match config.listen_client.rsplit_once(':') {
        Some((host, _)) if !host.is_empty() => vec![format!("{scheme}://{host}:{client_port}")],
        _ => vec![format!("{scheme}://{client_address}")],
    }
}

/// The other members' way in.
fn serve_peers(
    env: &Env,
    member: &Arc<Member>,
    listener: Box<dyn Listener>,
    tls: Option<Arc<dyn TlsAcceptor>>,
) -> JoinHandle<()> {
    let stop = member.peers_stopping.clone();
    let server = Server::builder()
        .initial_stream_window_size(PEER_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(PEER_CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(HTTP2_PING_INTERVAL))
        .http2_keepalive_timeout(Some(HTTP2_PING_TIMEOUT))
        .add_service(member.raft.peer_service());
    let accepted = incoming(listener, tls);
    env.spawn(async move {
        let served = server.serve_with_incoming_shutdown(accepted, stop.clone().cancelled_owned());
        // Streams of peers never end by themselves: they are cut once the last answers are out.
        let cut = async {
            stop.cancelled().await;
            tokio::time::sleep(PEER_DRAIN_TIME_MAX).await;
        };
        tokio::select! {
            biased;
            ended = served => if let Err(error) = ended {
                tracing::error!(%error, "the peer listener ended");
            },
            () = cut => {}
        }
    })
}

/// Notices that this member's state was found to be damaged, and that the cluster has removed it: then it ends.
async fn follow_condition(member: Arc<Member>) {
    loop {
        let of_us =
            |alarm: &pb::AlarmMember| alarm.alarm() == pb::AlarmType::Corrupt && alarm.member_id == member.member_id;
        member.quarantined.store(member.mvcc.alarms().iter().any(of_us), Relaxed);
        if member.raft.status().removed {
            member.stopping.cancel();
        }
        tokio::select! {
            biased;
            () = member.stopping.cancelled() => return,
            () = tokio::time::sleep(QUARANTINE_POLL_INTERVAL) => {}
        }
    }
}

async fn count_leader_changes(member: Arc<Member>) {
    let mut status = member.status_watch();
    let mut last = None;
    loop {
        let leader = status.borrow_and_update().leader;
        if leader.is_some() && leader != last {
            last = leader;
            member.metrics.leader_changes_seen.fetch_add(1, Relaxed);
        }
        tokio::select! {
            biased;
            () = member.stopping.cancelled() => return,
            changed = status.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Compacts physically what the log compacted logically, on every member for itself.
async fn compact_in_background(member: Arc<Member>) {
    loop {
        // Whatever is left: from before a restart, from the sender of a snapshot, of a compaction by any member.
        if let Err(error) = member.compact_physically().await {
            tracing::error!(%error, "compaction failed; it will be tried again");
        }
        tokio::select! {
            biased;
            () = member.stopping.cancelled() => return,
            () = tokio::time::sleep(COMPACT_POLL_INTERVAL) => {}
        }
    }
}
