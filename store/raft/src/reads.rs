//! Linearizable reads: all that wait share one confirmation of leadership.

use std::{sync::Arc, time::Duration};

use keelstone_env::fault::{self, Point};
use openraft::{LinearizerOption, ReadPolicy};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    constants::READS_QUEUED_MAX,
    core::{Core, Leader},
    leadership::Judgement,
    peer, RaftError,
};

/// Pause before a round that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A reader that waits for a round that begins after it came.
pub(crate) struct Reader {
    /// Asked by another member: must not be passed on again.
    pub here_only: bool,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<u64, RaftError>>,
}

/// The queue of readers.
#[derive(Clone)]
pub(crate) struct Reads {
    queue: mpsc::Sender<Reader>,
}

impl Reads {
    pub(crate) fn start(core: Arc<Core>) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, receiver) = mpsc::channel(READS_QUEUED_MAX);
        let env = core.env.clone();
        let task = env.spawn(run(core, receiver));
        (Self { queue }, task)
    }

    /// The index before which all must be applied for a read that was asked for now to be linearizable.
    pub(crate) async fn index(&self, here_only: bool, deadline: Instant) -> Result<u64, RaftError> {
        let (reply, result) = oneshot::channel();
        self.queue.try_send(Reader { here_only, deadline, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RaftError::Api(keelstone_etcd_api::ApiError::TooManyRequests),
            mpsc::error::TrySendError::Closed(_) => RaftError::Stopped,
        })?;
        result.await.map_err(|_| RaftError::Stopped)?
    }
}

async fn run(core: Arc<Core>, mut queue: mpsc::Receiver<Reader>) {
    let mut readers = Vec::new();
    loop {
        // Those that a round failed go into the next one, together with whoever came meanwhile.
        if readers.is_empty() {
            if queue.recv_many(&mut readers, READS_QUEUED_MAX).await == 0 {
                return;
            }
            // Requests that are ready already come along.
            tokio::task::yield_now().await;
        }
        while readers.len() < READS_QUEUED_MAX {
            let Ok(reader) = queue.try_recv() else { break };
            readers.push(reader);
        }
        readers = round(&core, readers).await;
        if !readers.is_empty() {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// One round for all `readers`; returns those for whom it must be repeated.
async fn round(core: &Core, readers: Vec<Reader>) -> Vec<Reader> {
    fault::pause(Point::ReadRound).await;
    let now = core.env.now();
    let (readers, over): (Vec<_>, Vec<_>) = readers.into_iter().partition(|reader| reader.deadline > now);
    end(over, &Err(RaftError::NoLeader));
    let Some(earliest) = readers.iter().map(|reader| reader.deadline).min() else { return Vec::new() };
    match core.leader(earliest).await {
        Ok(Leader::Here) => match confirm(core).await {
            Ok(Some(index)) => end(readers, &Ok(index)),
            Ok(None) => return readers,
            Err(fatal) => end(readers, &Err(fatal)),
        },
        Ok(Leader::At(mut client)) => {
            let (here_only, readers): (Vec<_>, Vec<_>) = readers.into_iter().partition(|reader| reader.here_only);
            end(here_only, &Err(RaftError::NoLeader));
            if readers.is_empty() {
                return readers;
            }
            let request = peer::ReadIndexRequest { member: core.config.id, vote: core.own_vote() };
            // Shorter than the readers' deadlines, so that a leader that died is asked for again.
            let limit = (core.env.now() + core.config.timing.election_max * 2).min(earliest);
            match tokio::time::timeout_at(limit, client.read_index(request)).await {
                Ok(Ok(response)) => end(readers, &Ok(response.into_inner().index)),
                Ok(Err(_)) | Err(_) => return readers,
            }
        }
        Err(RaftError::NoLeader) => return readers,
        Err(error) => end(readers, &Err(error)),
    }
    Vec::new()
}

fn end(readers: Vec<Reader>, result: &Result<u64, RaftError>) {
    for reader in readers {
        // Whoever asked may be gone.
        let _ = reader.reply.send(result.clone());
    }
}

/// Asks a quorum whether this member still leads; returns the index before which all must be applied. `None` means to
/// try again.
async fn confirm(core: &Core) -> Result<Option<u64>, RaftError> {
    match core.confirm_leadership().await? {
        Judgement::LedUpTo(index) => Ok(Some(index)),
        Judgement::NotLeading => Ok(None),
        // Members of an older release cannot be asked for their votes, but follow or refuse a heartbeat.
        Judgement::Unknown => confirm_by_heartbeat(core).await,
    }
}

async fn confirm_by_heartbeat(core: &Core) -> Result<Option<u64>, RaftError> {
    let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(core.config.timing.election_max);
    match core.raft.get_read_linearizer(option).await {
        Ok(linearizer) => Ok(Some(linearizer.read_log_id().index() + 1)),
        Err(openraft::errors::RaftError::APIError(_)) => Ok(None),
        Err(openraft::errors::RaftError::Fatal(fatal)) => Err(fatal.into()),
    }
}
