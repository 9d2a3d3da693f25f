use std::{collections::BTreeMap, sync::Arc, time::Duration};

use keelstone_env::{channel, ChannelOptions, TlsConnector};
use keelstone_etcd_api::pb::{self, cluster_client::ClusterClient};
use tonic::{transport::Channel, Status};

use crate::{
    constants::{ATTRIBUTES_INTERVAL, ATTRIBUTES_INTERVAL_MISSING, ATTRIBUTES_TIME_MAX},
    member::Member,
};

/// Asks the other members, through their peer listeners, under which URLs clients reach them, so that
/// `MemberList` can say so of every member. Runs until the member stops.
pub(crate) async fn collect(member: Arc<Member>, tls: Option<Arc<dyn TlsConnector>>) {
    let stopping = member.stopping.clone();
    let mut channels = BTreeMap::new();
    let work = async {
        loop {
            let missing = ask_all(&member, &tls, &mut channels).await;
            tokio::time::sleep(if missing { ATTRIBUTES_INTERVAL_MISSING } else { ATTRIBUTES_INTERVAL }).await;
        }
    };
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        () = work => {}
    }
}

/// Returns whether a member's URLs are still unknown.
async fn ask_all(
    member: &Member,
    tls: &Option<Arc<dyn TlsConnector>>,
    channels: &mut BTreeMap<String, Channel>,
) -> bool {
    let status = member.status();
    let mut missing = status.members.is_empty();
    for (id, info) in status.members.iter().filter(|(id, _)| **id != member.member_id) {
        match ask(member, &info.peer_address, tls, channels).await {
            Ok(answer) => {
                let own = answer.members.into_iter().find(|found| found.id == *id);
                let urls = own.map(|own| own.client_ur_ls).unwrap_or_default();
                missing |= urls.is_empty();
                let mut known = member.client_urls.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                known.insert(*id, urls);
            }
            Err(status) => {
                let known = member.client_urls.read().unwrap_or_else(std::sync::PoisonError::into_inner);
                missing |= !known.contains_key(id);
                tracing::debug!(peer = %info.peer_address, %status, "a member's client URLs are not known yet");
            }
        }
    }
    missing
}

async fn ask(
    member: &Member,
    address: &str,
    tls: &Option<Arc<dyn TlsConnector>>,
    channels: &mut BTreeMap<String, Channel>,
) -> Result<pb::MemberListResponse, Status> {
    let found = match channels.get(address) {
        Some(found) => found.clone(),
        None => {
            let options = ChannelOptions {
                tls: tls.clone(),
                // Rarely used: no pings beyond what a call needs.
                keep_alive_interval: Duration::from_secs(30),
                ..ChannelOptions::default()
            };
            let made = channel(&member.env, address, options).map_err(|error| Status::internal(error.to_string()))?;
            channels.insert(address.to_owned(), made.clone());
            made
        }
    };
    let mut client = ClusterClient::new(found);
    let call = client.member_list(pb::MemberListRequest { linearizable: false });
    let answer = tokio::time::timeout(ATTRIBUTES_TIME_MAX, call).await;
    Ok(answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner())
}
