use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use keelstone_env::Env;
use tokio::{
    sync::Notify,
    time::{sleep_until, Instant},
};

use crate::constants::{QUEUE_KEYS_MAX, RETRY_MS_MAX, RETRY_MS_MIN};

/// A queue of keys to work on, with the rules of client-go's workqueue: a key that waits is not added twice;
/// a key that is being worked on is not handed out a second time, but again after [`WorkQueue::done`] if it was
/// added meanwhile. Cheap to clone; clones are the same queue.
#[derive(Clone)]
pub struct WorkQueue {
    env: Env,
    keys_max: usize,
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<String>,
    /// Keys that are to be worked on: those in `ready`, and those added while being worked on.
    dirty: BTreeSet<String>,
    processing: BTreeSet<String>,
    /// Keys to be added later, by due time and then in the order of adding.
    delayed: BTreeMap<(Instant, u64), String>,
    due: BTreeMap<String, (Instant, u64)>,
    failures: BTreeMap<String, u32>,
    sequence: u64,
    overflowed: bool,
    closed: bool,
}

impl WorkQueue {
    pub fn new(env: &Env) -> Self {
        Self::bounded(env, QUEUE_KEYS_MAX)
    }

    /// A queue of at most `keys_max` keys (ready and delayed, each).
    pub fn bounded(env: &Env, keys_max: usize) -> Self {
        let inner = Inner { state: Mutex::default(), notify: Notify::new() };
        Self { env: env.clone(), keys_max: keys_max.max(1), inner: Arc::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key to be worked on as soon as possible. False if the queue is full or closed.
    pub fn add(&self, key: impl Into<String>) -> bool {
        let added = self.lock().add(key.into(), self.keys_max);
        self.inner.notify.notify_one();
        added
    }

    /// Adds a key after a while; the earliest of several such times counts.
    pub fn add_after(&self, key: impl Into<String>, delay: Duration) -> bool {
        if delay.is_zero() {
            return self.add(key);
        }
        let added = self.lock().delay(key.into(), self.env.now() + delay, self.keys_max);
        self.inner.notify.notify_one();
        added
    }

    /// Adds a key after a pause that doubles with each call until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, key: impl Into<String>) -> bool {
        let key = key.into();
        let failures = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        self.add_after(key, Duration::from_millis(retry_pause_ms(failures)))
    }

    /// How often the key was added rate limited since it was last forgotten.
    pub fn failures(&self, key: &str) -> u32 {
        self.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The next failure of this key begins with the shortest pause.
    pub fn forget(&self, key: &str) {
        self.lock().failures.remove(key);
    }

    /// The next key to work on; [`WorkQueue::done`] must follow. `None` once the queue is closed and empty.
    /// Cancel safe.
    pub async fn get(&self) -> Option<String> {
        loop {
            let notified = self.inner.notify.notified();
            let next_due = {
                let mut state = self.lock();
                state.promote(self.env.now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    if !state.ready.is_empty() {
                        // Another worker may be asleep: what it was woken for, this one may have taken.
                        self.inner.notify.notify_one();
                    }
                    return Some(key);
                }
                if state.closed {
                    self.inner.notify.notify_one();
                    return None;
                }
                state.delayed.first_key_value().map(|((due, _), _)| *due)
            };
            match next_due {
                None => notified.await,
                Some(due) => tokio::select! {
                    biased;
                    () = notified => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }

    /// The work on a key has ended; if it was added meanwhile it is ready again.
    pub fn done(&self, key: &str) {
        let mut state = self.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.to_owned());
            drop(state);
            self.inner.notify.notify_one();
        }
    }

    /// Keys that are ready to be worked on.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No key is ready, delayed or being worked on.
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.ready.is_empty() && state.delayed.is_empty() && state.processing.is_empty() && state.dirty.is_empty()
    }

    /// True once if keys were dropped because the queue was full and it has drained since: all keys must be
    /// added again.
    pub fn take_overflow(&self) -> bool {
        let mut state = self.lock();
        let recovered = state.overflowed && state.dirty.len() <= self.keys_max / 2;
        state.overflowed &= !recovered;
        recovered
    }

    /// No key is added any more; those who wait get what is left, then `None`.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.delayed.clear();
        state.due.clear();
        drop(state);
        self.inner.notify.notify_one();
    }
}

impl State {
    fn add(&mut self, key: String, keys_max: usize) -> bool {
        if self.closed {
            return false;
        }
        if self.dirty.contains(&key) {
            return true;
        }
        if self.dirty.len() >= keys_max {
            self.overflowed = true;
            return false;
        }
        self.dirty.insert(key.clone());
        if !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
        true
    }

    fn delay(&mut self, key: String, due: Instant, keys_max: usize) -> bool {
        if self.closed {
            return false;
        }
        match self.due.get(&key) {
            Some((earlier, _)) if *earlier <= due => return true,
            Some(later) => drop(self.delayed.remove(&later.clone())),
            None if self.delayed.len() >= keys_max => {
                self.overflowed = true;
                return false;
            }
            None => {}
        }
        self.sequence += 1;
        let place = (due, self.sequence);
        self.due.insert(key.clone(), place);
        self.delayed.insert(place, key);
        true
    }

    /// Moves what is due to the ready keys.
    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = entry.remove();
            self.due.remove(&key);
            // The bound was checked when the key was delayed.
            self.add(key, usize::MAX);
        }
    }
}

/// The pause after the n-th failure in a row, n from 1.
fn retry_pause_ms(failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(40);
    RETRY_MS_MIN.saturating_mul(1 << doublings).min(RETRY_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        Env::os()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_deduplicated_and_never_worked_on_twice_at_once() {
        let queue = WorkQueue::new(&env());
        assert!(queue.add("a") && queue.add("b") && queue.add("a"));
        assert_eq!(queue.get().await.as_deref(), Some("a"));
        queue.add("a");
        assert_eq!(queue.get().await.as_deref(), Some("b"));
        assert!(queue.is_empty());
        queue.done("a");
        assert_eq!(queue.get().await.as_deref(), Some("a"));
        queue.done("a");
        queue.done("b");
        assert!(queue.is_idle());
        queue.close();
        assert_eq!(queue.get().await, None);
        assert!(!queue.add("c"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_counts() {
        let queue = WorkQueue::new(&env());
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("b", Duration::from_secs(4));
        assert_eq!(queue.get().await.as_deref(), Some("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        assert_eq!(queue.get().await.as_deref(), Some("b"));
        assert_eq!(start.elapsed().as_secs(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_are_forgotten() {
        let queue = WorkQueue::new(&env());
        let mut pauses_ms = Vec::new();
        for _ in 0..4 {
            let before = Instant::now();
            queue.add_rate_limited("a");
            let key = queue.get().await.unwrap();
            pauses_ms.push(before.elapsed().as_millis());
            queue.done(&key);
        }
        assert_eq!(pauses_ms, [5, 10, 20, 40]);
        assert_eq!(queue.failures("a"), 4);
        queue.forget("a");
        assert_eq!(queue.failures("a"), 0);
        assert_eq!(retry_pause_ms(1), RETRY_MS_MIN);
        assert_eq!(retry_pause_ms(u32::MAX), RETRY_MS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_says_so_and_recovers() {
        let queue = WorkQueue::bounded(&env(), 2);
        assert!(queue.add("a") && queue.add("b"));
        assert!(!queue.add("c"));
        assert!(!queue.take_overflow());
        for _ in 0..2 {
            let key = queue.get().await.unwrap();
            queue.done(&key);
        }
        assert!(queue.take_overflow());
        assert!(!queue.take_overflow());
    }

    #[tokio::test(start_paused = true)]
    async fn all_sleeping_workers_wake() {
        let queue = WorkQueue::new(&env());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.get().await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        for key in ["a", "b", "c", "d"] {
            queue.add(key);
        }
        let mut got = BTreeSet::new();
        for worker in workers {
            got.insert(worker.await.unwrap().unwrap());
        }
        assert_eq!(got.len(), 4);
    }
}
