use std::sync::Arc;

use bytes::Bytes;
use keelstone_env::Env;
use keelstone_etcd_api::{pb, ApiError};
use keelstone_store_client::{EtcdKv, KvError};

use crate::{access::revision_of, constants::COMPACTION_INTERVAL};

/// The key by which API servers agree who compacts, the same as kube-apiserver's: its version counts the
/// compactions, its value is the revision at the last one.
const ELECTION_KEY: &[u8] = b"compact_rev_key";

/// Removes old revisions from the store, once per interval whatever the number of API servers.
pub struct Compactor {
    kv: Arc<dyn EtcdKv>,
    /// The version of the election key as last seen.
    version: i64,
    /// The store's revision then: it is at least one interval old at the next round.
    revision: i64,
}

impl Compactor {
    pub fn new(kv: Arc<dyn EtcdKv>) -> Self {
        Self { kv, version: 0, revision: 0 }
    }

    /// One round; to be called once per interval. Compacts to the revision of the round before if no other
    /// server was first. Returns the revision compacted to, if any.
    ///
    /// # Errors
    /// As the store's; the next round makes up for it.
    pub async fn round(&mut self) -> Result<Option<i64>, KvError> {
        let key = Bytes::from_static(ELECTION_KEY);
        let put =
            pb::PutRequest { key: key.clone(), value: Bytes::from(self.revision.to_string()), ..Default::default() };
        let answer = self
            .kv
            .txn(pb::TxnRequest {
                compare: vec![pb::Compare {
                    result: pb::compare::CompareResult::Equal.into(),
                    target: pb::compare::CompareTarget::Version.into(),
                    key: key.clone(),
                    target_union: Some(pb::compare::TargetUnion::Version(self.version)),
                    ..Default::default()
                }],
                success: vec![pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }],
                failure: vec![pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
                        key,
                        ..Default::default()
                    })),
                }],
            })
            .await?;
        let now = revision_of(&answer.header);
        if !answer.succeeded {
            self.version = answer
                .responses
                .into_iter()
                .find_map(|r| match r.response {
                    Some(pb::response_op::Response::ResponseRange(range)) => range.kvs.first().map(|kv| kv.version),
                    _ => None,
                })
                .unwrap_or(0);
            self.revision = now;
            return Ok(None);
        }
        let target = std::mem::replace(&mut self.revision, now);
        self.version += 1;
        if target == 0 {
            return Ok(None);
        }
        match self.kv.compact(pb::CompactionRequest { revision: target, physical: false }).await {
            Ok(_) | Err(KvError::Api(ApiError::Compacted)) => Ok(Some(target)),
            Err(error) => Err(error),
        }
    }
}

/// Compacts for as long as the server runs, keeping between one and two intervals of history.
pub async fn compact_forever(env: Env, kv: Arc<dyn EtcdKv>) {
    let mut compactor = Compactor::new(kv);
    let mut next = env.now();
    loop {
        match compactor.round().await {
            Ok(Some(revision)) => tracing::info!(revision, "compacted the store"),
            Ok(None) => {}
            Err(error) => tracing::info!(%error, "compaction was put off"),
        }
        next += COMPACTION_INTERVAL;
        tokio::time::sleep_until(next).await;
    }
}
