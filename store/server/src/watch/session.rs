use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use keelstone_env::fault::{self, Point};
use keelstone_etcd_api::{
    pb::{self, watch_create_request::FilterType, watch_request::RequestUnion},
    ApiError,
};
use keelstone_mvcc::WatchSpec;
use tokio::sync::{mpsc, oneshot};

use super::{
    access::{reason, WatchAccess},
    task::{compacted_reason, Control, Report, WatchTask},
    tasks::{Counted, Tasks},
};
use crate::{
    auth::Credentials,
    constants::{WATCHES_PER_STREAM_MAX, WATCH_RESPONSES_QUEUED_MAX},
    member::Member,
    quorum::leader_lost,
};

/// The id in a response about a watch that was refused, or about all watches of a stream.
const NO_WATCH_ID: i64 = -1;

/// Serves one watch stream: answers to `requests`, until the reader drops them. The stream ends with an error
/// at shutdown and, with `require_leader`, when the cluster has no leader for a while.
pub(crate) fn start<R>(
    member: Arc<Member>,
    tasks: Tasks,
    requests: R,
    credentials: Credentials,
    require_leader: bool,
) -> impl Stream<Item = Result<pb::WatchResponse, ApiError>> + Send + 'static
where
    R: Stream<Item = pb::WatchRequest> + Send + Unpin + 'static,
{
    let (out, mut responses) = mpsc::channel(WATCH_RESPONSES_QUEUED_MAX);
    let (end, mut ended) = oneshot::channel();
    let (reports, received) = mpsc::channel(WATCH_RESPONSES_QUEUED_MAX);
    let session = Session {
        credentials,
        tasks: tasks.clone(),
        member,
        out,
        reports,
        watches: BTreeMap::new(),
        next_id: 0,
        round: None,
        round_again: false,
    };
    tasks.spawn(session.run(requests, received, require_leader, end));
    async_stream::stream! {
        while let Some(response) = responses.recv().await {
            yield Ok(response);
        }
        // The session has ended and what it said before has been read.
        if let Ok(error) = ended.try_recv() {
            yield Err(error);
        }
    }
}

/// The state of one stream.
struct Session {
    credentials: Credentials,
    tasks: Tasks,
    member: Arc<Member>,
    out: mpsc::Sender<pb::WatchResponse>,
    reports: mpsc::Sender<Report>,
    watches: BTreeMap<i64, Control>,
    next_id: i64,
    /// The progress request being answered.
    round: Option<ProgressRound>,
    /// Another progress request came meanwhile.
    round_again: bool,
}

/// A progress request waits for every watch of the stream.
struct ProgressRound {
    waiting: BTreeSet<i64>,
    revision: i64,
}

impl Session {
    async fn run<R>(
        mut self,
        requests: R,
        received: mpsc::Receiver<Report>,
        require_leader: bool,
        end: oneshot::Sender<ApiError>,
    ) where
        R: Stream<Item = pb::WatchRequest> + Send + Unpin,
    {
        let _counted = Counted::new(&self.member, |metrics| &metrics.watch_streams);
        let (member, out) = (Arc::clone(&self.member), self.out.clone());
        let error = tokio::select! {
            biased;
            () = member.stopping.cancelled() => Some(ApiError::Stopped),
            () = leader_lost(&member), if require_leader => Some(ApiError::NoLeader),
            () = out.closed() => None,
            () = self.serve(requests, received) => None,
        };
        self.watches.values().for_each(|control| control.cancel.cancel());
        if let Some(error) = error {
            // A reader that is gone does not care. The queue closes when the last watch has gone.
            let _ = end.send(error);
        }
    }

    async fn serve<R>(&mut self, mut requests: R, mut received: mpsc::Receiver<Report>)
    where
        R: Stream<Item = pb::WatchRequest> + Send + Unpin,
    {
        let mut more_requests = true;
        let mut auth_changes = self.member.mvcc.auth_changes();
        loop {
            tokio::select! {
                biased;
                Some(report) = received.recv() => self.take(report).await,
                Ok(()) = auth_changes.changed() => {
                    self.watches.values().for_each(|control| control.auth_changed.notify_one());
                }
                request = requests.next(), if more_requests => match request.map(|request| request.request_union) {
                    // A client may close its side and go on reading.
                    None => more_requests = false,
                    Some(None) => {}
                    Some(Some(RequestUnion::CreateRequest(create))) => self.create(create).await,
                    Some(Some(RequestUnion::CancelRequest(cancel))) => self.cancel(cancel.watch_id).await,
                    Some(Some(RequestUnion::ProgressRequest(_))) => self.ask_progress(),
                },
            }
        }
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) {
        fault::pause(Point::WatchCreate).await;
        let revision = self.member.mvcc.revision();
        let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key.clone() };
        let to_the_end = request.range_end == Bytes::from_static(&[0]);
        let refusal = if !request.range_end.is_empty() && !to_the_end && key >= request.range_end {
            Some("mvcc: watcher range is empty".to_owned())
        } else if request.start_revision < 0 {
            Some(compacted_reason())
        } else if request.watch_id != 0 && self.watches.contains_key(&request.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream".to_owned())
        } else if self.watches.len() >= WATCHES_PER_STREAM_MAX {
            Some(ApiError::TooManyRequests.text().to_owned())
        } else {
            None
        };
        let caller = self.member.caller(&self.credentials);
        let access =
            caller.and_then(|caller| WatchAccess::new(&self.member, caller, key.clone(), request.range_end.clone()));
        let (access, refusal) = match (access, refusal) {
            (Err(error), _) => (None, Some(reason(error))),
            (Ok(access), refusal) => (Some(access), refusal),
        };
        if let Some(cancel_reason) = refusal {
            let refused = self.response(revision, NO_WATCH_ID);
            self.send(pb::WatchResponse { created: true, canceled: true, cancel_reason, ..refused }).await;
            return;
        }
        let Some(access) = access else { return };
        let id = if request.watch_id == 0 { self.free_id() } else { request.watch_id };
        // Said before the watch can say anything.
        self.send(pb::WatchResponse { created: true, ..self.response(revision, id) }).await;
        self.begin(id, key, revision, access, &request);
    }

    fn begin(&mut self, id: i64, key: Bytes, revision: i64, access: WatchAccess, request: &pb::WatchCreateRequest) {
        let start_revision = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
        let filters = |kind: FilterType| request.filters.contains(&i32::from(kind));
        let watcher = self.member.mvcc.watch(WatchSpec {
            key,
            range_end: request.range_end.clone(),
            start_revision,
            prev_kv: request.prev_kv,
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
        });
        let control = Control::default();
        self.watches.insert(id, control.clone());
        let task = WatchTask {
            member: Arc::clone(&self.member),
            id,
            watcher,
            access,
            fragment: request.fragment,
            control,
            out: self.out.clone(),
            reports: self.reports.clone(),
        };
        let interval = request.progress_notify.then_some(self.member.limits.watch_progress_interval);
        self.tasks.spawn(task.run(interval));
    }

    /// The lowest id from the last one on that no client has taken.
    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    async fn cancel(&mut self, id: i64) {
        let Some(control) = self.watches.remove(&id) else { return };
        control.cancel.cancel();
        let response = self.response(self.member.mvcc.revision(), id);
        self.send(pb::WatchResponse { canceled: true, ..response }).await;
        self.leave_round(id).await;
    }

    async fn take(&mut self, report: Report) {
        match report {
            Report::Ended { id } => {
                self.watches.remove(&id);
                self.leave_round(id).await;
            }
            Report::Progress { id, revision } => {
                if let Some(round) = &mut self.round {
                    round.revision = round.revision.min(revision);
                }
                self.leave_round(id).await;
            }
        }
    }

    /// One answer for the whole stream, once every watch has said how far it is.
    fn ask_progress(&mut self) {
        if self.round.is_some() {
            self.round_again = true;
            return;
        }
        if self.watches.is_empty() {
            return;
        }
        self.round = Some(ProgressRound { waiting: self.watches.keys().copied().collect(), revision: i64::MAX });
        self.watches.values().for_each(|control| control.progress.notify_one());
    }

    async fn leave_round(&mut self, id: i64) {
        let Some(round) = &mut self.round else { return };
        round.waiting.remove(&id);
        if !round.waiting.is_empty() {
            return;
        }
        let revision = round.revision;
        self.round = None;
        if revision != i64::MAX {
            self.send(self.response(revision, NO_WATCH_ID)).await;
        }
        if std::mem::take(&mut self.round_again) {
            self.ask_progress();
        }
    }

    fn response(&self, revision: i64, watch_id: i64) -> pb::WatchResponse {
        pb::WatchResponse { header: Some(self.member.header(revision)), watch_id, ..Default::default() }
    }

    async fn send(&self, response: pb::WatchResponse) {
        // A reader that is gone ends the session elsewhere.
        let _ = self.out.send(response).await;
    }
}
