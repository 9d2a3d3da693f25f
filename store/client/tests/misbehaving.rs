//! The client against servers that misbehave on purpose.

use std::{
    pin::Pin,
    sync::{
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
        Arc, Mutex,
    },
    time::Duration,
};

use futures::{Stream, StreamExt};
use keelstone_env::{incoming, Env};
use keelstone_etcd_api::{
    mvccpb,
    pb::{
        self,
        kv_server::{Kv, KvServer},
        maintenance_server::{Maintenance, MaintenanceServer},
        watch_request::RequestUnion,
        watch_server::{Watch, WatchServer},
    },
    ApiError,
};
use keelstone_store_client::{resume, EtcdKv, GrpcKv, GrpcKvOptions, KvError};
use tokio::{sync::watch, time::Instant};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the next watch streams do, one script each: responses, then the stream breaks.
type Scripts = Mutex<Vec<Vec<pb::WatchResponse>>>;

/// A server that does what it is told.
#[derive(Clone)]
struct Fake {
    id: u64,
    leader: Arc<AtomicU64>,
    /// While true, nothing is answered.
    frozen: Arc<watch::Sender<bool>>,
    /// What writes answer.
    refusal: Arc<Mutex<Option<Status>>>,
    writes: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
    scripts: Arc<Scripts>,
    /// Where watches began.
    starts: Arc<Mutex<Vec<i64>>>,
}

impl Fake {
    /// Three of them on free ports; the last one leads.
    async fn three() -> (Vec<Self>, GrpcKv) {
        let leader = Arc::new(AtomicU64::new(3));
        let (mut fakes, mut endpoints) = (Vec::new(), Vec::new());
        for id in 1..=3 {
            let fake = Self {
                id,
                leader: Arc::clone(&leader),
                frozen: Arc::new(watch::Sender::new(false)),
                refusal: Arc::default(),
                writes: Arc::default(),
                reads: Arc::default(),
                scripts: Arc::default(),
                starts: Arc::default(),
            };
            endpoints.push(fake.serve().await);
            fakes.push(fake);
        }
        (fakes, GrpcKv::new(&Env::os(), GrpcKvOptions::new(endpoints)).unwrap())
    }

    async fn serve(&self) -> String {
        let env = Env::os();
        let listener = env.net().bind("127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let server = tonic::transport::Server::builder()
            .add_service(KvServer::new(self.clone()))
            .add_service(WatchServer::new(self.clone()))
            .add_service(MaintenanceServer::new(self.clone()));
        env.spawn(server.serve_with_incoming(incoming(listener, None)));
        address
    }

    async fn thaw(&self) {
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }

    fn header(&self, revision: i64) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { member_id: self.id, revision, ..Default::default() })
    }
}

#[tonic::async_trait]
impl Kv for Fake {
    async fn range(&self, _: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        self.reads.fetch_add(1, SeqCst);
        self.thaw().await;
        Ok(Response::new(pb::RangeResponse { header: self.header(1), ..Default::default() }))
    }

    type RangeStreamStream = Answers<pb::RangeStreamResponse>;

    async fn range_stream(&self, _: Request<pb::RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn put(&self, _: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.writes.fetch_add(1, SeqCst);
        self.thaw().await;
        match self.refusal.lock().unwrap().clone() {
            Some(status) => Err(status),
            None => Ok(Response::new(pb::PutResponse { header: self.header(2), prev_kv: None })),
        }
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn txn(&self, _: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn compact(&self, _: Request<pb::CompactionRequest>) -> Result<Response<pb::CompactionResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[tonic::async_trait]
impl Watch for Fake {
    type WatchStream = Answers<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.thaw().await;
        let mut requests = request.into_inner();
        if let Some(RequestUnion::CreateRequest(create)) = requests.message().await?.and_then(|r| r.request_union) {
            self.starts.lock().unwrap().push(create.start_revision);
        }
        let mut scripts = self.scripts.lock().unwrap();
        if scripts.is_empty() {
            return Err(Status::unavailable("nothing to say"));
        }
        let script = scripts.remove(0);
        let answers = futures::stream::iter(script.into_iter().map(Ok))
            .chain(futures::stream::once(async { Err(Status::unavailable("the stream breaks")) }));
        Ok(Response::new(answers.boxed()))
    }
}

#[tonic::async_trait]
impl Maintenance for Fake {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        self.thaw().await;
        let leader = self.leader.load(SeqCst);
        Ok(Response::new(pb::StatusResponse { header: self.header(1), leader, ..Default::default() }))
    }

    async fn alarm(&self, _: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn defragment(&self, _: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn hash_kv(&self, _: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type SnapshotStream = Answers<pb::SnapshotResponse>;

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn move_leader(&self, _: Request<pb::MoveLeaderRequest>) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn downgrade(&self, _: Request<pb::DowngradeRequest>) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

fn put() -> pb::PutRequest {
    pb::PutRequest { key: "a".into(), ..Default::default() }
}

fn get() -> pb::RangeRequest {
    pb::RangeRequest { key: "a".into(), ..Default::default() }
}

fn writes(fakes: &[Fake]) -> Vec<usize> {
    fakes.iter().map(|fake| fake.writes.load(SeqCst)).collect()
}

/// Writes until the client has found the leader.
async fn found_the_leader(fakes: &[Fake], kv: &GrpcKv) {
    let leader = usize::try_from(fakes[0].leader.load(SeqCst) - 1).unwrap();
    let found = async {
        loop {
            let before = fakes[leader].writes.load(SeqCst);
            kv.put(put()).await.unwrap();
            if fakes[leader].writes.load(SeqCst) > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.expect("the leader is found");
}

#[tokio::test]
async fn writes_follow_the_leader_and_reads_use_all_members() {
    let (fakes, kv) = Fake::three().await;
    found_the_leader(&fakes, &kv).await;
    for fake in &fakes {
        fake.leader.store(1, SeqCst);
    }
    found_the_leader(&fakes, &kv).await;
    for _ in 0..9 {
        kv.range(get()).await.unwrap();
    }
    assert!(fakes.iter().all(|fake| fake.reads.load(SeqCst) == 3));
}

#[tokio::test]
async fn a_frozen_member_costs_a_call_little_and_later_calls_nothing() {
    let (fakes, kv) = Fake::three().await;
    found_the_leader(&fakes, &kv).await;
    fakes[2].frozen.send_replace(true);
    let before = writes(&fakes);
    let started = Instant::now();
    let outcome = kv.put(put()).await;
    assert!(outcome.as_ref().is_err_and(KvError::outcome_unknown), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // It was sent to nobody else: it may have been carried out.
    assert_eq!((writes(&fakes)[0], writes(&fakes)[1]), (before[0], before[1]));
    let started = Instant::now();
    for _ in 0..20 {
        kv.range(get()).await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    kv.put(put()).await.unwrap();
    assert!(writes(&fakes)[..2].iter().sum::<usize>() > before[0] + before[1]);
}

#[tokio::test]
async fn a_write_is_sent_again_only_if_it_was_certainly_not_carried_out() {
    let (fakes, kv) = Fake::three().await;
    let refuse = |status: Option<Status>| fakes.iter().for_each(|fake| *fake.refusal.lock().unwrap() = status.clone());
    let sum = || writes(&fakes).iter().sum::<usize>();
    for error in [ApiError::Timeout, ApiError::LeaderChanged, ApiError::Stopped, ApiError::TimeoutConnectionLost] {
        refuse(Some(error.into()));
        let before = sum();
        assert!(kv.put(put()).await.is_err_and(|error| error.outcome_unknown()), "{error:?}");
        assert_eq!(sum(), before + 1, "{error:?}");
    }
    for status in [Status::internal("h2 protocol error"), Status::unavailable("transport is closing")] {
        refuse(Some(status));
        let before = sum();
        assert!(kv.put(put()).await.is_err_and(|error| error.outcome_unknown()));
        assert_eq!(sum(), before + 1);
    }
    refuse(Some(ApiError::NoSpace.into()));
    let before = sum();
    assert!(matches!(kv.put(put()).await, Err(KvError::Api(ApiError::NoSpace))));
    assert_eq!(sum(), before + 1);
    // Refused before it entered the log: another member is asked.
    for fake in &fakes[1..] {
        *fake.refusal.lock().unwrap() = None;
    }
    *fakes[0].refusal.lock().unwrap() = Some(ApiError::NoLeader.into());
    for _ in 0..3 {
        kv.put(put()).await.unwrap();
    }
}

fn created(revision: i64) -> pb::WatchResponse {
    let header = Some(pb::ResponseHeader { revision, ..Default::default() });
    pb::WatchResponse { header, created: true, ..Default::default() }
}

fn said(revisions: &[i64], fragment: bool) -> pb::WatchResponse {
    let event = |revision: &i64| mvccpb::Event {
        kv: Some(mvccpb::KeyValue { mod_revision: *revision, ..Default::default() }),
        ..Default::default()
    };
    let header = Some(pb::ResponseHeader { revision: *revisions.last().unwrap(), ..Default::default() });
    pb::WatchResponse { header, events: revisions.iter().map(event).collect(), fragment, ..Default::default() }
}

#[tokio::test]
async fn a_watch_goes_on_without_gap_or_duplicate() {
    let (fakes, kv) = Fake::three().await;
    let progress = pb::WatchResponse { created: false, ..created(9) };
    let compacted = pb::WatchResponse { canceled: true, compact_revision: 20, ..Default::default() };
    let scripts = vec![
        // Created at revision 4: it begins at 5, also for those who open it again.
        vec![created(4)],
        vec![created(7), said(&[5, 6], false)],
        // Sends again what was seen, and breaks in the middle of revision 8.
        vec![created(7), said(&[6, 7], false), said(&[8], true), said(&[8], true)],
        vec![created(8), said(&[8, 8, 8], false), progress],
        vec![created(12), said(&[11, 12], false), compacted],
    ];
    // Whichever member a watch is opened at takes the next script.
    let shared: Arc<Scripts> = Arc::new(Mutex::new(scripts));
    let fakes: Vec<Fake> = fakes;
    let starts = Arc::new(Mutex::new(Vec::new()));
    let mut endpoints = Vec::new();
    for fake in &fakes {
        let fake = Fake { scripts: Arc::clone(&shared), starts: Arc::clone(&starts), ..fake.clone() };
        endpoints.push(fake.serve().await);
    }
    drop(kv);
    let kv: Arc<dyn EtcdKv> = Arc::new(GrpcKv::new(&Env::os(), GrpcKvOptions::new(endpoints)).unwrap());
    let mut watch = resume(kv, pb::WatchCreateRequest { key: "a".into(), ..Default::default() });
    let (mut revisions, mut creations, mut ended) = (Vec::new(), 0, false);
    let read = async {
        while let Some(response) = watch.next().await {
            let response = response.unwrap();
            creations += usize::from(response.created);
            ended |= response.canceled && response.compact_revision == 20;
            revisions.extend(response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    assert_eq!(revisions, [5, 6, 7, 8, 8, 8, 11, 12]);
    assert_eq!((creations, ended), (1, true));
    assert_eq!(*starts.lock().unwrap(), [0, 5, 7, 8, 10]);
}
