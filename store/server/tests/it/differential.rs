//! The same requests to a real etcd and to this store: answers, revisions, error codes and texts must be equal.
//! `$ETCD` names another binary than `/usr/bin/etcd`.

use std::{fmt::Debug, time::Duration};

use futures::StreamExt;
use keelstone_env::{channel, ChannelOptions, Env};
use keelstone_etcd_api::{
    mvccpb,
    pb::{
        self, kv_client::KvClient, lease_client::LeaseClient, response_op::Response as OpResponse,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
};
use tonic::{transport::Channel, Response, Status};

use crate::{
    common::{put, Cluster},
    etcd::Etcd,
    requests::{delete, table, Call, Numbers},
};

const RANDOM_CALLS: usize = 600;
const RANDOM_SEED: u64 = 0x5eed;

struct Target {
    channel: Channel,
    /// The last revision that it answered.
    revision: i64,
}

impl Target {
    fn new(endpoint: &str) -> Self {
        let options = ChannelOptions { keep_alive_interval: Duration::from_secs(60), ..ChannelOptions::default() };
        Self { channel: channel(&Env::os(), endpoint, options).unwrap(), revision: 0 }
    }

    /// What is comparable of a header: the revision alone.
    fn header(&mut self, header: &mut Option<pb::ResponseHeader>) {
        if let Some(header) = header {
            self.revision = header.revision;
            *header = pb::ResponseHeader { revision: header.revision, ..Default::default() };
        }
    }

    fn text<T: Debug>(
        &mut self,
        result: Result<Response<T>, Status>,
        header: impl FnOnce(&mut T) -> &mut Option<pb::ResponseHeader>,
    ) -> String {
        match result {
            Ok(response) => {
                let mut response = response.into_inner();
                self.header(header(&mut response));
                format!("{response:?}")
            }
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        }
    }

    async fn run(&mut self, call: &Call) -> String {
        let mut kv = KvClient::new(self.channel.clone());
        let mut lease = LeaseClient::new(self.channel.clone());
        match call.clone() {
            Call::Range(request) => self.text(kv.range(request).await, |r| &mut r.header),
            Call::Put(request) => self.text(kv.put(request).await, |r| &mut r.header),
            Call::DeleteRange(request) => self.text(kv.delete_range(request).await, |r| &mut r.header),
            Call::Compact(request) => self.text(kv.compact(request).await, |r| &mut r.header),
            Call::Grant(request) => self.text(lease.lease_grant(request).await, |r| &mut r.header),
            Call::Revoke(request) => self.text(lease.lease_revoke(request).await, |r| &mut r.header),
            Call::Leases => self.text(lease.lease_leases(pb::LeaseLeasesRequest {}).await, |r| &mut r.header),
            Call::Txn(request) => {
                let result = kv.txn(request).await.map(|mut response| {
                    bare_headers(response.get_mut());
                    response
                });
                self.text(result, |r| &mut r.header)
            }
            Call::KeepAlive(id) => {
                let once = futures::stream::once(async move { pb::LeaseKeepAliveRequest { id } });
                let mut answers = lease.lease_keep_alive(once).await.unwrap().into_inner();
                self.text(answers.message().await.map(|answer| Response::new(answer.unwrap())), |r| &mut r.header)
            }
            Call::TimeToLive(request) => {
                let result = lease.lease_time_to_live(request).await.map(|mut response| {
                    // A second may have passed on one of them.
                    let left = &mut response.get_mut().ttl;
                    *left = left.signum();
                    response
                });
                self.text(result, |r| &mut r.header)
            }
        }
    }

    /// Everything that a watch from `start_revision` says until `upto`, batches flattened.
    async fn watch(&mut self, create: pb::WatchCreateRequest, upto: i64) -> Vec<String> {
        let union = |union| pb::WatchRequest { request_union: Some(union) };
        let first = union(RequestUnion::CreateRequest(create));
        let requests = futures::stream::once(async move { first }).chain(futures::stream::pending());
        let mut client = WatchClient::new(self.channel.clone());
        let mut answers = client.watch(requests).await.unwrap().into_inner();
        let mut said = Vec::new();
        // Silence means that nothing of interest is left.
        while let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), answers.message()).await {
            let answer = answer.unwrap().unwrap();
            if answer.events.is_empty() {
                said.push(format!(
                    "watch {} created {} canceled {} compacted at {}",
                    answer.watch_id, answer.created, answer.canceled, answer.compact_revision
                ));
            }
            said.extend(answer.events.iter().map(|event| format!("{event:?}")));
            let last = |event: &mvccpb::Event| event.kv.as_ref().unwrap().mod_revision >= upto;
            if answer.canceled || answer.events.iter().any(last) {
                break;
            }
        }
        said
    }
}

/// Headers inside a txn's responses hold only a revision, if anything.
fn bare_headers(txn: &mut pb::TxnResponse) {
    for response in txn.responses.iter_mut().filter_map(|op| op.response.as_mut()) {
        let header = match response {
            OpResponse::ResponseRange(r) => &mut r.header,
            OpResponse::ResponsePut(r) => &mut r.header,
            OpResponse::ResponseDeleteRange(r) => &mut r.header,
            OpResponse::ResponseTxn(r) => {
                bare_headers(r);
                &mut r.header
            }
        };
        *header = header.map(|header| pb::ResponseHeader { revision: header.revision, ..Default::default() });
    }
}

/// The real one, ours, and what keeps them running.
async fn targets() -> Option<(Etcd, Cluster, Target, Target)> {
    let real = Etcd::start(1).await?;
    let ours = Cluster::start(1).await;
    let (theirs, own) = (Target::new(&real.endpoints[0]), Target::new(&ours.endpoints()[0]));
    Some((real, ours, theirs, own))
}

async fn compare(theirs: &mut Target, own: &mut Target, call: &Call, differences: &mut Vec<String>) {
    let (expected, found) = (theirs.run(call).await, own.run(call).await);
    if expected != found {
        let short = |text: &str| text.chars().take(600).collect::<String>();
        let (call, expected, found) = (format!("{call:?}"), short(&expected), short(&found));
        differences.push(format!("{}\n  etcd: {expected}\n  ours: {found}\n", short(&call)));
    }
}

fn assert_none(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences[..differences.len().min(12)].join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_is_answered_as_by_etcd() {
    let Some((_real, ours, mut theirs, mut own)) = targets().await else { return };
    let mut differences = Vec::new();
    for call in table() {
        compare(&mut theirs, &mut own, &call, &mut differences).await;
    }
    ours.stop_all().await;
    assert_none(&differences);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_calls_and_their_watches_are_answered_as_by_etcd() {
    let Some((_real, ours, mut theirs, mut own)) = targets().await else { return };
    let mut numbers = Numbers::new(RANDOM_SEED);
    let mut differences = Vec::new();
    for _ in 0..RANDOM_CALLS {
        let call = numbers.call(theirs.revision);
        compare(&mut theirs, &mut own, &call, &mut differences).await;
        if differences.len() > 10 {
            break;
        }
    }
    assert_none(&differences);

    // A last event that every watch below sees.
    for key in ["c", "c"] {
        compare(&mut theirs, &mut own, &Call::Put(put(key, "end")), &mut differences).await;
    }
    let upto = own.revision;
    let whole = pb::WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let recent = (upto - 10).max(1);
    let creates = [
        pb::WatchCreateRequest { start_revision: 1, ..whole.clone() },
        pb::WatchCreateRequest { start_revision: recent, ..whole.clone() },
        pb::WatchCreateRequest { start_revision: recent, prev_kv: true, ..whole.clone() },
        pb::WatchCreateRequest { start_revision: recent, filters: vec![1], ..whole.clone() },
        pb::WatchCreateRequest { start_revision: recent, filters: vec![0], ..whole.clone() },
        pb::WatchCreateRequest { key: "c".into(), start_revision: recent, ..Default::default() },
        pb::WatchCreateRequest { key: "c".into(), range_end: "a".into(), ..Default::default() },
        pb::WatchCreateRequest { start_revision: upto, ..whole },
    ];
    for create in creates {
        let (expected, found) = (theirs.watch(create.clone(), upto).await, own.watch(create.clone(), upto).await);
        if expected != found {
            differences.push(format!("{create:?}\n  etcd: {expected:#?}\n  ours: {found:#?}\n"));
        }
    }
    let emptied = Call::DeleteRange(delete("\0", "\0"));
    compare(&mut theirs, &mut own, &emptied, &mut differences).await;
    ours.stop_all().await;
    assert_none(&differences);
}
