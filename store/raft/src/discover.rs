//! How a member that joins a running cluster finds out who it is: the cluster knows it by its peer URLs.

use std::{collections::BTreeMap, time::Duration};

use keelstone_env::{ClientTls, Env, TlsFiles};

use crate::{constants::DESCRIBE_TIME_MAX, convert, peer, peers::Peers, MemberInfo, RaftError};

const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What the cluster says to a member that was added to it.
#[derive(Clone, Debug)]
pub struct Discovered {
    pub cluster_id: u64,
    pub member_id: u64,
    pub members: BTreeMap<u64, MemberInfo>,
}

/// Asks the members at `addresses` until one of them has a member with one of `own_urls`, for at most `time_max`.
///
/// # Errors
/// If none does, or the one that does has started before: then its data is gone and it must be replaced.
pub async fn discover(
    env: &Env,
    tls: Option<(&ClientTls, Option<&TlsFiles>)>,
    addresses: &[String],
    own_urls: &[String],
    time_max: Duration,
) -> Result<Discovered, RaftError> {
    let peers = Peers::of(env, 0, tls.map(|(tls, _)| tls), tls.and_then(|(_, files)| files))?;
    let deadline = env.now() + time_max;
    let mut answered = false;
    loop {
        for (at, address) in (0..).zip(addresses) {
            let Some(found) = describe(&peers, at, address).await else { continue };
            answered |= !found.1.is_empty();
            let (cluster_id, members) = found;
            let own = members.iter().find(|(_, info)| info.peer_urls.iter().any(|url| own_urls.contains(url)));
            let Some((id, info)) = own else { continue };
            if info.level > 0 {
                return Err(RaftError::Fatal(format!(
                    "member {id:x} with the peer URL {} has taken part before and its data is gone: it must be \
                     replaced: removed, and added anew",
                    info.peer_urls.join(",")
                )));
            }
            return Ok(Discovered { cluster_id, member_id: *id, members: members.clone() });
        }
        if env.now() >= deadline {
            return Err(RaftError::Fatal(match answered {
                true => format!("the cluster has no member with the peer URL {}: add it first", own_urls.join(",")),
                false => format!("no member of a cluster with a leader answers at {}", addresses.join(", ")),
            }));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn describe(peers: &Peers, at: u64, address: &str) -> Option<(u64, BTreeMap<u64, MemberInfo>)> {
    let mut client = peers.client(at, address).ok()?;
    // One that lags might list a member as if it had never been there.
    let call = client.describe(peer::DescribeRequest { confirmed: true });
    let found = tokio::time::timeout(DESCRIBE_TIME_MAX, call).await.ok()?.ok()?.into_inner();
    let membership = convert::stored_membership_in(found.membership.unwrap_or_default()).ok()?;
    Some((found.cluster_id, membership.nodes().map(|(id, info)| (*id, info.clone())).collect()))
}
