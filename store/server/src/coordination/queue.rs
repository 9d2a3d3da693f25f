use std::sync::Arc;

use bytes::Bytes;
use keelstone_etcd_api::{
    mvccpb::{event::EventType, KeyValue},
    pb::{
        self,
        compare::{CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request,
        response_op::Response,
    },
    ApiError,
};
use keelstone_mvcc::{WatchBatch, WatchSpec};
use keelstone_raft::RaftError;
use tokio::sync::Semaphore;

use crate::{
    auth::Credentials,
    constants::{COORDINATION_LEASE_TTL_S, COORDINATION_WAITERS_MAX},
    member::Member,
};

/// Bounds the calls that wait for a lock or a leadership.
pub(crate) struct Waiting(Semaphore);

impl Default for Waiting {
    fn default() -> Self {
        Self(Semaphore::new(COORDINATION_WAITERS_MAX))
    }
}

/// A key in a queue.
pub(super) struct Place {
    pub key: Bytes,
    /// The key's creation revision: the place in the queue.
    pub revision: i64,
    pub lease: i64,
    pub header: Option<pb::ResponseHeader>,
    /// The value that was there already, if this lease had the place before.
    pub found: Option<Bytes>,
}

/// The prefix of the queue that is called `name`.
pub(super) fn prefix(name: &Bytes) -> Bytes {
    [&name[..], b"/"].concat().into()
}

/// The end of the range of all keys that begin with `prefix`, which ends in `/`.
fn prefix_end(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// The lease's id as Go prints it in hexadecimal.
fn hex(lease: i64) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

/// Holds if the key was created at `revision`; 0 if it does not exist.
pub(super) fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

pub(super) fn op(request: Request) -> Vec<pb::RequestOp> {
    vec![pb::RequestOp { request: Some(request) }]
}

pub(super) fn delete(key: &Bytes) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.clone(), ..Default::default() }
}

impl Member {
    /// Takes the place of `lease` in a queue, or finds it there. Without a lease one is granted, as etcd's
    /// services do.
    pub(super) async fn enter(
        &self,
        name: &Bytes,
        lease: i64,
        value: &Bytes,
        credentials: &Credentials,
    ) -> Result<Place, RaftError> {
        let lease = match lease {
            0 => {
                let request = pb::LeaseGrantRequest { ttl: COORDINATION_LEASE_TTL_S, id: 0 };
                self.lease_grant(request, credentials).await?.id
            }
            lease => lease,
        };
        let key: Bytes = [&prefix(name)[..], hex(lease).as_bytes()].concat().into();
        let put = pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
        let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let txn = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: op(Request::RequestPut(put)),
            failure: op(Request::RequestRange(get)),
        };
        let response = self.txn(txn, credentials).await?;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let found = response.responses.into_iter().find_map(|op| match op.response {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        });
        Ok(Place {
            key,
            revision: found.as_ref().map_or(revision, |kv| kv.create_revision),
            lease,
            header: response.header,
            found: found.map(|kv| kv.value),
        })
    }

    /// Waits until every key of the queue that was created before `place` is gone. If it fails, or its caller
    /// goes away, the place is given up.
    pub(super) async fn wait_for_turn(
        self: &Arc<Self>,
        name: &Bytes,
        place: &Place,
        credentials: &Credentials,
    ) -> Result<(), RaftError> {
        let _waiting = self.waiting.0.try_acquire().map_err(|_| ApiError::TooManyRequests)?;
        let leaving = Leaving { member: self, place: Some((place.key.clone(), place.revision)) };
        while let Some((before, revision)) = self.last_before(name, place.revision, credentials).await? {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Err(ApiError::Stopped.into()),
                gone = self.wait_until_deleted(before.key, revision) => gone?,
            }
        }
        leaving.stay();
        Ok(())
    }

    /// The youngest key of a queue that was created before `revision`, and the revision of the answer.
    async fn last_before(
        &self,
        name: &Bytes,
        revision: i64,
        credentials: &Credentials,
    ) -> Result<Option<(KeyValue, i64)>, RaftError> {
        let request = pb::RangeRequest {
            max_create_revision: revision - 1,
            sort_order: SortOrder::Descend.into(),
            ..self.first_of(name)
        };
        let response = self.range(request, credentials).await?;
        let at = response.header.map_or(0, |header| header.revision);
        Ok(response.kvs.into_iter().next().map(|kv| (kv, at)))
    }

    /// Asks for the key of a queue that was created first.
    pub(super) fn first_of(&self, name: &Bytes) -> pb::RangeRequest {
        let key = prefix(name);
        pb::RangeRequest {
            range_end: prefix_end(&key),
            key,
            limit: 1,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..Default::default()
        }
    }

    /// Waits until `key` is deleted after `revision`, or that can no longer be told.
    async fn wait_until_deleted(&self, key: Bytes, revision: i64) -> Result<(), RaftError> {
        let spec = WatchSpec { key, start_revision: revision + 1, no_put: true, ..WatchSpec::default() };
        let mut watcher = self.mvcc.watch(spec);
        loop {
            match watcher.next().await {
                Ok(Some(WatchBatch::Events { events, .. })) => {
                    if events.iter().any(|event| event.r#type() == EventType::Delete) {
                        return Ok(());
                    }
                }
                Ok(Some(WatchBatch::Progress { .. })) => {}
                // What is there now says it then.
                Ok(Some(WatchBatch::Compacted { .. }) | None) => return Ok(()),
                Err(error) => return Err(RaftError::Fatal(error.to_string())),
            }
        }
    }
}

/// Gives a place up when it is dropped: whoever waited for it has gone away.
struct Leaving<'a> {
    member: &'a Arc<Member>,
    place: Option<(Bytes, i64)>,
}

impl Leaving<'_> {
    fn stay(mut self) {
        self.place = None;
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Some((key, revision)) = self.place.take() else { return };
        let member = Arc::clone(self.member);
        let leave = pb::TxnRequest {
            compare: vec![created_at(&key, revision)],
            success: op(Request::RequestDeleteRange(delete(&key))),
            failure: Vec::new(),
        };
        self.member.env.spawn(async move {
            if let Err(error) = member.txn(leave, &Credentials::INTERNAL).await {
                // Its lease ends it then.
                tracing::info!(%error, "a place in a queue could not be given up");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_etcd_makes_them() {
        assert_eq!(hex(0x694d), "694d");
        assert_eq!(hex(-255), "-ff");
        let prefix = prefix(&"lock".into());
        assert_eq!((&prefix[..], &prefix_end(&prefix)[..]), (&b"lock/"[..], &b"lock0"[..]));
    }
}
