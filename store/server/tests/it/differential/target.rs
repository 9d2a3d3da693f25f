//! One side of the comparison.

use std::{fmt::Debug, time::Duration};

use keelstone_env::{channel, ChannelOptions, Env};
use keelstone_etcd_api::pb::{
    self, kv_client::KvClient, lease_client::LeaseClient, response_op::Response as OpResponse,
};
use tonic::{transport::Channel, Response, Status};

use crate::requests::Call;

/// A server that is asked.
pub struct Target {
    pub channel: Channel,
    /// The last revision that it answered.
    pub revision: i64,
}

impl Target {
    pub fn new(endpoint: &str) -> Self {
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

    /// The comparable answer to a call.
    pub async fn run(&mut self, call: &Call) -> String {
        let mut kv = KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
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
                    // etcd keeps them in no order.
                    response.get_mut().keys.sort();
                    response
                });
                self.text(result, |r| &mut r.header)
            }
        }
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
