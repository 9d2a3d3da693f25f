//! The watches of one side, all on one stream.

use std::{collections::BTreeMap, time::Duration};

use futures::{stream::BoxStream, StreamExt};
use keelstone_etcd_api::{
    mvccpb,
    pb::{self, watch_client::WatchClient, watch_request::RequestUnion},
};
use tokio::sync::mpsc;
use tonic::{transport::Channel, Status};

/// How long an answer may take that must come.
const ANSWER_S_MAX: u64 = 20;

/// What one watch has said.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub events: Vec<mvccpb::Event>,
    /// Its last word, if it was cancelled: compact revision and reason.
    pub ended: Option<(i64, String)>,
    /// A revision whose events came in more than one response without being a fragment.
    pub torn: Option<i64>,
    created: bool,
    fragmented: bool,
}

pub struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: BoxStream<'static, Result<pb::WatchResponse, Status>>,
    pub said: BTreeMap<i64, Said>,
}

impl Watching {
    /// The stream begins with the first request: etcd sends no headers before its first answer, so that waiting
    /// for them here would be for ever.
    pub fn new(channel: Channel) -> Self {
        let (requests, mut receiver) = mpsc::channel(64);
        let outgoing = async_stream::stream! {
            while let Some(request) = receiver.recv().await {
                yield request;
            }
        };
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let answers = async_stream::try_stream! {
            let mut answers = client.watch(outgoing).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                yield answer;
            }
        };
        Self { requests, answers: answers.boxed(), said: BTreeMap::new() }
    }

    async fn send(&self, union: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
    }

    /// Creates a watch and waits until that is confirmed or refused; the confirmation without its header's ids.
    pub async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<(), String> {
        let id = request.watch_id;
        self.send(RequestUnion::CreateRequest(request)).await;
        self.until(|said| said.get(&id).is_some_and(|one| one.created || one.ended.is_some())).await
    }

    pub async fn cancel(&mut self, id: i64) -> Result<(), String> {
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: id })).await;
        self.until(|said| said.get(&id).is_some_and(|one| one.ended.is_some())).await
    }

    /// Waits until a watch has said an event of `revision` or later, or has ended.
    pub async fn reach(&mut self, id: i64, revision: i64) -> Result<(), String> {
        let reached = |one: &Said| {
            let last = one.events.last().and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision);
            one.ended.is_some() || last >= revision
        };
        self.until(|said| said.get(&id).is_some_and(reached)).await
    }

    pub fn live(&self) -> Vec<i64> {
        self.said.iter().filter(|(_, one)| one.created && one.ended.is_none()).map(|(id, _)| *id).collect()
    }

    async fn until(&mut self, done: impl Fn(&BTreeMap<i64, Said>) -> bool) -> Result<(), String> {
        while !done(&self.said) {
            let answer = tokio::time::timeout(Duration::from_secs(ANSWER_S_MAX), self.answers.next());
            match answer.await {
                Ok(Some(Ok(answer))) => self.take(answer),
                other => return Err(format!("the watch stream: {other:?}; said so far: {:?}", self.said)),
            }
        }
        Ok(())
    }

    fn take(&mut self, answer: pb::WatchResponse) {
        let one = self.said.entry(answer.watch_id).or_default();
        one.created |= answer.created;
        let revision = |event: &mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if let (Some(last), Some(first)) = (one.events.last(), answer.events.first()) {
            if revision(last) == revision(first) && !one.fragmented {
                one.torn = Some(revision(first));
            }
        }
        one.fragmented = answer.fragment;
        one.events.extend(answer.events);
        if answer.canceled {
            one.ended = Some((answer.compact_revision, answer.cancel_reason));
        }
    }
}
