//! Ids of the cluster and its members, and the addresses in their URLs.

use std::collections::BTreeMap;

use keelstone_raft::MemberInfo;
use sha2::{Digest, Sha256};

use crate::{StoreConfig, StoreError};

/// Who a member is and whom it starts with.
pub(crate) struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub members: BTreeMap<u64, MemberInfo>,
}

/// Derives the ids as etcd does: a member's from its peer URL and the cluster's token, the cluster's from its
/// first members' ids. (etcd hashes with SHA-1; only that every member derives the same ids matters.)
pub(crate) fn derive(config: &StoreConfig) -> Result<Identity, StoreError> {
    let mut members = BTreeMap::new();
    let mut own = None;
    for member in &config.initial_cluster {
        let Some(peer_address) = host_port(&member.peer_url) else {
            return Err(StoreError::Config(format!("peer URL {:?} is not http(s)://host:port", member.peer_url)));
        };
        let id = first_u64(&[member.peer_url.as_bytes(), config.cluster_token.as_bytes()]);
        if member.name == config.name {
            own = Some(id);
        }
        let info = MemberInfo {
            name: member.name.clone(),
            peer_address,
            peer_urls: vec![member.peer_url.clone()],
            client_urls: Vec::new(),
        };
        if members.insert(id, info).is_some() {
            return Err(StoreError::Config(format!("peer URL {:?} is given twice", member.peer_url)));
        }
    }
    let Some(member_id) = own else {
        return Err(StoreError::Config(format!("member {:?} is not in the initial cluster", config.name)));
    };
    let ids: Vec<[u8; 8]> = members.keys().map(|id| id.to_be_bytes()).collect();
    let parts: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
    Ok(Identity { cluster_id: first_u64(&parts), member_id, members })
}

/// `host:port` of an `http://` or `https://` URL without a path.
pub(crate) fn host_port(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || !matches!(uri.path(), "" | "/") {
        return None;
    }
    uri.port_u16()?;
    Some(uri.authority()?.as_str().to_owned())
}

fn first_u64(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    // 0 means "no member" on the wire.
    u64::from_be_bytes(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InitialMember;

    fn config(name: &str, cluster: &str) -> StoreConfig {
        StoreConfig::new(name, InitialMember::parse_list(cluster).unwrap(), "/nowhere")
    }

    #[test]
    fn every_member_derives_the_same_ids() {
        let a = derive(&config("a", "a=http://h1:2380,b=http://h2:2380")).unwrap();
        let b = derive(&config("b", "b=http://h2:2380,a=http://h1:2380")).unwrap();
        assert_eq!((a.cluster_id, &a.members), (b.cluster_id, &b.members));
        assert_ne!(a.member_id, b.member_id);
        let mut other = config("a", "a=http://h1:2380,b=http://h2:2380");
        other.cluster_token = "other".into();
        assert_ne!(derive(&other).unwrap().cluster_id, a.cluster_id);
    }

    #[test]
    fn wrong_clusters_are_refused() {
        assert!(derive(&config("c", "a=http://h1:2380")).is_err());
        assert!(derive(&config("a", "a=h1:2380")).is_err());
        assert!(derive(&config("a", "a=http://h1")).is_err());
        assert!(derive(&config("a", "a=http://h1:1,b=http://h1:1")).is_err());
    }
}
