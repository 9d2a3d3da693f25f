//! The one task of a member that proposes: it drains its queue into the log, or to the leader, in batches.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use keelstone_env::fault::{self, Point, Sight};
use keelstone_mvcc::Response;
use tokio::{
    sync::{mpsc, oneshot, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    constants::{PROPOSALS_BATCH_BYTES_MAX, PROPOSALS_BATCH_MAX, PROPOSAL_BATCHES_IN_FLIGHT_MAX},
    core::{Core, Leader},
    gate,
    outcome::Outcome,
    peer,
    peers::{never_sent, Client},
    RaftError,
};

/// Pause before a command that no leader took is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// A command and who waits for it.
pub(crate) struct Pending {
    pub command: Bytes,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<Response, RaftError>>,
}

impl Pending {
    fn end(self, result: Result<Response, RaftError>) {
        // Whoever asked may be gone.
        let _ = self.reply.send(result);
    }
}

fn batch_max() -> usize {
    if fault::rare(Point::ProposerOne) {
        1
    } else {
        PROPOSALS_BATCH_MAX
    }
}

pub(crate) struct Proposer {
    core: Arc<Core>,
    /// Where commands go back to that certainly were not taken.
    again: mpsc::WeakSender<Pending>,
    in_flight: Arc<Semaphore>,
}

impl Proposer {
    pub(crate) fn new(core: Arc<Core>, again: mpsc::WeakSender<Pending>) -> Self {
        Self { core, again, in_flight: Arc::new(Semaphore::new(PROPOSAL_BATCHES_IN_FLIGHT_MAX)) }
    }

    /// Runs until the node is gone. Whatever comes while the batches in flight are at their bound goes into the
    /// next one: under load batches grow by themselves, and the cost of each is shared by many commands.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Pending>) {
        let mut waiting = Vec::new();
        while let Ok(room) = Arc::clone(&self.in_flight).acquire_owned().await {
            let batch_max = batch_max();
            if queue.recv_many(&mut waiting, batch_max).await == 0 {
                return;
            }
            // Requests that are ready already come along.
            tokio::task::yield_now().await;
            while waiting.len() < batch_max {
                let Ok(pending) = queue.try_recv() else { break };
                waiting.push(pending);
            }
            let mut batches = cut(std::mem::take(&mut waiting)).into_iter();
            let Some(first) = batches.next() else { continue };
            self.dispatch(first, room).await;
            for batch in batches {
                let Ok(room) = Arc::clone(&self.in_flight).acquire_owned().await else { return };
                self.dispatch(batch, room).await;
            }
        }
    }

    /// Sends one batch on its way as soon as there is a leader.
    async fn dispatch(&self, mut batch: Vec<Pending>, room: OwnedSemaphorePermit) {
        fault::pause(Point::ProposerBatch).await;
        batch = expire(batch, self.core.env.now(), &RaftError::Timeout);
        loop {
            let Some(earliest) = batch.iter().map(|pending| pending.deadline).min() else { return };
            match self.core.leader(earliest).await {
                Ok(Leader::Here) => return self.send_here(batch, room),
                Ok(Leader::At(client)) => return self.send_to(client, batch, room),
                Err(RaftError::NoLeader) => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    batch = expire(batch, self.core.env.now(), &RaftError::NoLeader);
                }
                Err(error) => {
                    for pending in batch {
                        pending.end(Err(error.clone()));
                    }
                    return;
                }
            }
        }
    }

    fn send_here(&self, batch: Vec<Pending>, room: OwnedSemaphorePermit) {
        let (core, again, moved) = (Arc::clone(&self.core), self.again.clone(), self.core.leader_moves());
        self.core.env.spawn(async move {
            let Some(latest) = latest(&batch) else { return };
            let commands = batch.iter().map(|pending| pending.command.clone()).collect();
            let written = tokio::time::timeout_at(latest, gate::write(&core, commands));
            let refused = match holding(room, moved, written).await {
                Ok(outcomes) => {
                    fault::pause(Point::ProposerAnswer).await;
                    answer_all(batch, outcomes)
                }
                Err(_) => unknown(batch, "not committed in time"),
            };
            retry(again, refused).await;
        });
    }

    fn send_to(&self, mut client: Client, batch: Vec<Pending>, room: OwnedSemaphorePermit) {
        let (core, again, moved) = (Arc::clone(&self.core), self.again.clone(), self.core.leader_moves());
        self.core.env.spawn(async move {
            let Some(latest) = latest(&batch) else { return };
            let commands = batch.iter().map(|pending| pending.command.clone()).collect();
            fault::pause(Point::ProposerForward).await;
            let call = client.forward(peer::ForwardRequest { commands });
            let refused = match holding(room, moved, tokio::time::timeout_at(latest, call)).await {
                Ok(Ok(response)) => {
                    let response = response.into_inner();
                    // Whoever wrote through this member finds it here, also by a serializable read or a watch, as in
                    // etcd. A member that cannot follow in time answers all the same: the outcome is known.
                    let _ = core.wait_applied(response.applied_end, latest).await;
                    answer_all(batch, response.outcomes.into_iter().map(Outcome::from_wire))
                }
                Ok(Err(status)) if never_sent(&status) => batch,
                Ok(Err(status)) => unknown(batch, &format!("the leader did not answer: {}", status.message())),
                Err(_) => unknown(batch, "the leader did not answer in time"),
            };
            retry(again, refused).await;
        });
    }
}

/// Keeps a place among the batches in flight until `work` is done or the leader moves: what went to a leader that is
/// gone may be answered late, and must not hold up what the next one can take.
async fn holding<T>(room: OwnedSemaphorePermit, moved: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = moved => drop(room),
    }
    work.await
}

fn latest(batch: &[Pending]) -> Option<Instant> {
    batch.iter().map(|pending| pending.deadline).max()
}

/// Gives each command its outcome; returns those that were not taken.
fn answer_all(batch: Vec<Pending>, outcomes: impl IntoIterator<Item = Outcome>) -> Vec<Pending> {
    let mut refused = Vec::new();
    let mut outcomes = outcomes.into_iter();
    for pending in batch {
        match outcomes.next() {
            Some(Outcome::NotLeader) => refused.push(pending),
            Some(outcome) => pending.end(outcome.into_result()),
            None => pending.end(Err(RaftError::Unknown("the leader's answer is incomplete".into()))),
        }
    }
    refused
}

fn unknown(batch: Vec<Pending>, why: &str) -> Vec<Pending> {
    fault::sight(Sight::LeaderChangedInFlight);
    for pending in batch {
        pending.end(Err(RaftError::Unknown(why.to_owned())));
    }
    Vec::new()
}

/// Ends those whose time is over with `error`; returns the others. One that nobody waits for any more is over too:
/// whoever gave it up may have done something else instead, so it must not be proposed late.
fn expire(batch: Vec<Pending>, now: Instant, error: &RaftError) -> Vec<Pending> {
    let goes_on = |pending: &Pending| pending.deadline > now && !pending.reply.is_closed();
    let (rest, over): (Vec<_>, Vec<_>) = batch.into_iter().partition(goes_on);
    for pending in over {
        pending.end(Err(error.clone()));
    }
    rest
}

/// Queues commands again that certainly are in no log. Their deadline stays.
async fn retry(again: mpsc::WeakSender<Pending>, refused: Vec<Pending>) {
    if refused.is_empty() {
        return;
    }
    fault::sight(Sight::ProposalRetried);
    tokio::time::sleep(RETRY_PAUSE).await;
    for pending in refused {
        let Some(queue) = again.upgrade() else { return pending.end(Err(RaftError::Stopped)) };
        if let Err(error) = queue.send(pending).await {
            error.0.end(Err(RaftError::Stopped));
        }
    }
}

/// Cuts a batch where it holds too many bytes.
fn cut(waiting: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for pending in waiting {
        if bytes + pending.command.len() > PROPOSALS_BATCH_BYTES_MAX && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += pending.command.len();
        batch.push(pending);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}
