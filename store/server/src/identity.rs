//! Ids of the cluster and its members, and the addresses in their URLs.

use std::collections::BTreeMap;

use keelstone_env::{ClientTls, Env};
use keelstone_raft::{discover, DataOwner, MemberInfo};
use sha2::{Digest, Sha256};

use crate::{constants::JOIN_TIME_MAX, StoreConfig, StoreError};

/// Who a member is and whom it starts with.
pub(crate) struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub members: BTreeMap<u64, MemberInfo>,
    /// Whether it is one of those that form the cluster.
    pub forms: bool,
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
            ..MemberInfo::default()
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
    Ok(Identity { cluster_id: first_u64(&parts), member_id, members, forms: true })
}

/// Who the member is: what its data folder says; else, in a new cluster, what its configuration says, or, in a
/// running one, what the others say.
pub(crate) async fn resolve(env: &Env, config: &StoreConfig) -> Result<Identity, StoreError> {
    let (disk, dir) = (env.clone(), config.data_dir.clone());
    let owner = env.offload(move || DataOwner::read(&disk, &dir)).await?;
    if config.bootstrap {
        let derived = derive(config)?;
        let Some(owner) = owner else { return Ok(derived) };
        let (cluster_id, member_id) = (owner.cluster_id, owner.member_id);
        // One that joined later has its id from the cluster. As with etcd, what it was started with first is of no
        // interest then.
        if cluster_id == derived.cluster_id && !derived.members.contains_key(&member_id) {
            return Ok(Identity { cluster_id, member_id, members: BTreeMap::new(), forms: false });
        }
        if member_id != derived.member_id {
            return Err(StoreError::Config(format!(
                "{} holds the data of member {:x} of cluster {:x}, the flags are for member {:x} of cluster {:x} \
                 (a member that was added to a running cluster starts with the initial cluster state `existing`)",
                config.data_dir.display(),
                member_id,
                cluster_id,
                derived.member_id,
                derived.cluster_id
            )));
        }
        return Ok(Identity { cluster_id, ..derived });
    }
    if let Some(owner) = owner {
        let (cluster_id, member_id) = (owner.cluster_id, owner.member_id);
        return Ok(Identity { cluster_id, member_id, members: BTreeMap::new(), forms: false });
    }
    let (own, others): (Vec<_>, Vec<_>) = config.initial_cluster.iter().partition(|member| member.name == config.name);
    let own_urls: Vec<String> = own.iter().map(|member| member.peer_url.clone()).collect();
    if own_urls.is_empty() {
        return Err(StoreError::Config(format!("member {:?} is not in the initial cluster", config.name)));
    }
    let addresses: Vec<String> = others.iter().filter_map(|member| host_port(&member.peer_url)).collect();
    let tls = config.peer_tls.as_ref().map(|tls| ClientTls { alpn: vec!["h2".into()], ..tls.client.clone() });
    let tls = tls.as_ref().map(|tls| (tls, config.peer_tls_files.as_ref()));
    let found = discover(env, tls, &addresses, &own_urls, JOIN_TIME_MAX).await?;
    Ok(Identity { cluster_id: found.cluster_id, member_id: found.member_id, members: found.members, forms: false })
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

    #[tokio::test]
    async fn the_folder_knows_who_joined_and_refuses_others() {
        let (env, dir) = (Env::os(), tempfile::tempdir().unwrap());
        let mut config = config("a", "a=http://h1:2380,b=http://h2:2380");
        config.data_dir = dir.path().to_owned();
        let first = resolve(&env, &config).await.unwrap();
        assert!(first.forms);
        // It was added later: with the flags of the first start as with those of one that joins.
        DataOwner::new(first.cluster_id, 5).write(&env, dir.path()).unwrap();
        for bootstrap in [true, false] {
            config.bootstrap = bootstrap;
            let joined = resolve(&env, &config).await.unwrap();
            assert_eq!((joined.cluster_id, joined.member_id, joined.forms), (first.cluster_id, 5, false));
        }
        config.bootstrap = true;
        let another = *first.members.keys().find(|id| **id != first.member_id).unwrap();
        for (cluster_id, member_id) in [(first.cluster_id, another), (9, 5)] {
            DataOwner::new(cluster_id, member_id).write(&env, dir.path()).unwrap();
            let refused = resolve(&env, &config).await.err().unwrap().to_string();
            assert!(refused.contains(&format!("holds the data of member {member_id:x}")), "{refused}");
        }
    }

    #[test]
    fn wrong_clusters_are_refused() {
        assert!(derive(&config("c", "a=http://h1:2380")).is_err());
        assert!(derive(&config("a", "a=h1:2380")).is_err());
        assert!(derive(&config("a", "a=http://h1")).is_err());
        assert!(derive(&config("a", "a=http://h1:1,b=http://h1:1")).is_err());
    }
}
