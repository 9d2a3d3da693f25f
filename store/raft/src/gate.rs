//! The way into the log of the leader, for its own clients and for those of other members.
//!
//! A batch costs a sync on every member, messages to each follower and a write of the state machine, however many
//! commands it has. So only some are under way at a time, and all that come meanwhile are put together. With one
//! under way at most:
//!
//! ```text
//! from a: 1 2 | from b: 3 | from a: 4      the log is asked for 1 2, then for 3 4 at once
//! ```

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::oneshot;

use crate::{
    constants::{LOG_BATCHES_IN_FLIGHT_MAX, PROPOSALS_BATCH_BYTES_MAX, PROPOSALS_BATCH_MAX},
    core::Core,
    outcome::Outcome,
};

/// Commands that wait for their place in a batch, and who wants their outcomes.
struct Waiting {
    commands: Vec<Bytes>,
    reply: oneshot::Sender<Vec<Outcome>>,
}

#[derive(Default)]
struct State {
    /// Bounded by those who wait: each member has few batches under way, and who has gone is dropped.
    waiting: VecDeque<Waiting>,
    in_flight: usize,
}

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues commands. True if there is room for another batch, whose place then is the caller's.
    fn enter(&self, waiting: Waiting) -> bool {
        let mut state = self.state();
        state.waiting.retain(|waiting| !waiting.reply.is_closed());
        state.waiting.push_back(waiting);
        let has_room = state.in_flight < LOG_BATCHES_IN_FLIGHT_MAX;
        state.in_flight += usize::from(has_room);
        has_room
    }

    /// The next batch of whoever has a place; `None` if nothing waits, and the place is given back.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        let (mut batch, mut commands, mut bytes) = (Vec::new(), 0, 0);
        while let Some(first) = state.waiting.front() {
            commands += first.commands.len();
            bytes += first.commands.iter().map(Bytes::len).sum::<usize>();
            let is_full = commands > PROPOSALS_BATCH_MAX || bytes > PROPOSALS_BATCH_BYTES_MAX;
            if is_full && !batch.is_empty() {
                break;
            }
            batch.extend(state.waiting.pop_front());
        }
        if batch.is_empty() {
            state.in_flight -= 1;
            return None;
        }
        Some(batch)
    }
}

/// Puts commands into this member's log if it leads; returns their outcomes, in order. Commands of a caller that
/// goes away may still get there.
pub(crate) async fn write(core: &Arc<Core>, commands: Vec<Bytes>) -> Vec<Outcome> {
    let count = commands.len();
    let (reply, outcomes) = oneshot::channel();
    if core.gate.enter(Waiting { commands, reply }) {
        core.env.spawn(pass(Arc::clone(core)));
    }
    outcomes.await.unwrap_or_else(|_| (0..count).map(|_| stopped()).collect())
}

fn stopped() -> Outcome {
    Outcome::Unknown("the member stopped".into())
}

/// Passes batches on until none waits. One that is answered late, because its leader is gone, holds up no other.
async fn pass(core: Arc<Core>) {
    while let Some(batch) = core.gate.next() {
        let moved = core.leader_moves();
        let mut work = Box::pin(write_batch(Arc::clone(&core), batch));
        tokio::select! {
            biased;
            () = &mut work => {}
            () = moved => drop(core.env.spawn(work)),
        }
    }
}

async fn write_batch(core: Arc<Core>, mut batch: Vec<Waiting>) {
    let counts: Vec<usize> = batch.iter().map(|waiting| waiting.commands.len()).collect();
    let commands = batch.iter_mut().flat_map(|waiting| std::mem::take(&mut waiting.commands)).collect();
    let mut outcomes = pin!(core.write_here(commands).await);
    for (waiting, count) in batch.into_iter().zip(counts) {
        let mut answers = Vec::with_capacity(count);
        while answers.len() < count {
            answers.push(outcomes.next().await.unwrap_or_else(stopped));
        }
        // Whoever asked may be gone.
        let _ = waiting.reply.send(answers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(count: usize, bytes: usize) -> (Waiting, oneshot::Receiver<Vec<Outcome>>) {
        let (reply, outcomes) = oneshot::channel();
        (Waiting { commands: vec![vec![0; bytes].into(); count], reply }, outcomes)
    }

    fn sizes(batch: Option<Vec<Waiting>>) -> Option<Vec<usize>> {
        Some(batch?.iter().map(|waiting| waiting.commands.len()).collect())
    }

    #[test]
    fn what_comes_while_the_places_are_taken_goes_together() {
        let gate = Gate::default();
        let mut callers = Vec::new();
        let mut enter = |count, bytes| {
            let (waiting, caller) = waiting(count, bytes);
            callers.push(caller);
            gate.enter(waiting)
        };
        for _ in 0..LOG_BATCHES_IN_FLIGHT_MAX {
            assert!(enter(1, 1));
            assert_eq!(sizes(gate.next()), Some(vec![1]));
        }
        assert!(!enter(2, 1) && !enter(3, 1), "no place is left");
        assert_eq!(sizes(gate.next()), Some(vec![2, 3]));
        assert_eq!(sizes(gate.next()), None);
        assert!(enter(1, 1), "the place was given back");
    }

    #[test]
    fn a_batch_has_its_bounds_and_forgets_who_has_gone() {
        let gate = Gate::default();
        let mut callers = Vec::new();
        for (count, bytes) in [(PROPOSALS_BATCH_MAX, 1), (1, 1), (1, PROPOSALS_BATCH_BYTES_MAX + 1), (1, 1), (1, 1)] {
            let (waiting, caller) = waiting(count, bytes);
            callers.push(caller);
            gate.enter(waiting);
        }
        drop(callers.swap_remove(1));
        let (last, _caller) = waiting(7, 1);
        gate.enter(last);
        assert_eq!(sizes(gate.next()), Some(vec![PROPOSALS_BATCH_MAX]));
        assert_eq!(sizes(gate.next()), Some(vec![1]), "one that is too large goes alone");
        assert_eq!(sizes(gate.next()), Some(vec![1, 1, 7]));
    }
}
