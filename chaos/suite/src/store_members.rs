//! The members of the store, each asked for itself through the etcd API.

use std::time::Duration;

use keelstone_env::{ClientTls, Env};
use keelstone_store_client::{EtcdKv, GrpcKv, GrpcKvOptions};

use crate::{
    cluster::Cluster,
    failure::{Failure, Outcome},
};

const STATUS_MAX: Duration = Duration::from_secs(3);

/// What one member says of itself.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    pub master: String,
    pub is_leader: bool,
    pub applied: u64,
}

/// Asks one master's member.
pub async fn status(cluster: &Cluster, master: &str) -> Result<MemberStatus, String> {
    let kv = connect(cluster, master).map_err(|f| f.text().to_owned())?;
    let status = kv.status().await.map_err(|e| format!("{master}: {e}"))?;
    let own = status.header.as_ref().map_or(0, |h| h.member_id);
    Ok(MemberStatus {
        master: master.to_owned(),
        is_leader: own != 0 && status.leader == own,
        applied: status.raft_applied_index,
    })
}

fn connect(cluster: &Cluster, master: &str) -> Outcome<GrpcKv> {
    let mut options = GrpcKvOptions::new(vec![cluster.store_address(master)]);
    options.request_timeout = STATUS_MAX;
    options.tls = Some(ClientTls {
        ca: cluster.pki("store-ca.crt")?,
        identity: Some((cluster.pki("store-client.crt")?, cluster.pki("store-client.key")?)),
        alpn: vec!["h2".into()],
    });
    GrpcKv::new(&Env::os(), options).map_err(|e| Failure::impossible(e.to_string()))
}

/// The master whose member leads the store.
pub async fn leader(cluster: &Cluster) -> Result<String, String> {
    let mut answers = Vec::new();
    for master in &cluster.masters {
        match status(cluster, master).await {
            Ok(MemberStatus { is_leader: true, master, .. }) => return Ok(master),
            other => answers.push(format!("{other:?}")),
        }
    }
    Err(format!("no member says that it leads: {}", answers.join("; ")))
}
