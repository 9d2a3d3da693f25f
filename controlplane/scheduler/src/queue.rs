use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    constants::{BACKOFF_MS_MAX, BACKOFF_MS_MIN, UNSCHEDULABLE_S_MAX},
    pod_info::PodInfo,
};

/// Priority (highest first), then the order of arrival.
type Rank = (Reverse<i32>, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    /// Waits until then.
    Backoff(Instant),
    /// Waits for a change in the cluster, or until then.
    Unschedulable(Instant),
    /// A decision on it is being made or carried out; with the number of changes seen when it was taken.
    Taken(u64),
}

struct Entry {
    pod: Arc<PodInfo>,
    rank: Rank,
    attempts: u32,
    /// It may not be tried before.
    not_before: Instant,
    place: Place,
}

/// The pods that wait for a node. Pure: the time is passed in.
#[derive(Default)]
pub struct Queue {
    entries: BTreeMap<String, Entry>,
    active: BTreeSet<(Rank, String)>,
    timed: BTreeSet<(Instant, String)>,
    arrivals: u64,
    /// Changes in the cluster that may have made room.
    changes: u64,
}

impl Queue {
    /// Takes a new pod, or a new state of a known one. A pod that could not be placed is tried again if what it
    /// asks for has changed.
    pub fn add(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&pod.key) else {
            self.arrivals += 1;
            let rank = (Reverse(pod.priority()), self.arrivals);
            let key = pod.key.clone();
            self.active.insert((rank, key.clone()));
            self.entries.insert(key, Entry { pod, rank, attempts: 0, not_before: now, place: Place::Active });
            return;
        };
        let changed = entry.pod.spec() != pod.spec() || entry.pod.labels() != pod.labels();
        let another = entry.pod.uid() != pod.uid();
        let key = pod.key.clone();
        entry.pod = pod;
        if another {
            entry.attempts = 0;
            entry.not_before = now;
        }
        match entry.place {
            Place::Unschedulable(_) if changed || another => self.release(&key, now),
            // The decision being made is on an old state.
            Place::Taken(_) if changed || another => entry.place = Place::Taken(u64::MAX),
            _ => {}
        }
    }

    /// Forgets a pod: it is gone, or placed.
    pub fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.unlink(key, entry.rank, entry.place);
        }
    }

    fn unlink(&mut self, key: &str, rank: Rank, place: Place) {
        match place {
            Place::Active => drop(self.active.remove(&(rank, key.to_owned()))),
            Place::Backoff(at) | Place::Unschedulable(at) => drop(self.timed.remove(&(at, key.to_owned()))),
            Place::Taken(_) => {}
        }
    }

    fn put(&mut self, key: &str, place: Place) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let (rank, old) = (entry.rank, std::mem::replace(&mut entry.place, place));
        self.unlink(key, rank, old);
        match place {
            Place::Active => drop(self.active.insert((rank, key.to_owned()))),
            Place::Backoff(at) | Place::Unschedulable(at) => drop(self.timed.insert((at, key.to_owned()))),
            Place::Taken(_) => {}
        }
    }

    /// To the active pods, or to wait for the rest of its back-off.
    fn release(&mut self, key: &str, now: Instant) {
        if let Some(not_before) = self.entries.get(key).map(|entry| entry.not_before) {
            self.put(key, if not_before > now { Place::Backoff(not_before) } else { Place::Active });
        }
    }

    /// Moves pods whose time has come.
    fn wake(&mut self, now: Instant) {
        while let Some((_, key)) = self.timed.first().filter(|(at, _)| *at <= now).cloned() {
            self.put(&key, Place::Active);
        }
    }

    /// The next pod to decide on; [`Queue::failed`], [`Queue::retry`] or [`Queue::remove`] must follow.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.wake(now);
        let (_, key) = self.active.first().cloned()?;
        self.put(&key, Place::Taken(self.changes));
        let entry = self.entries.get_mut(&key)?;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.not_before = now + backoff(entry.attempts);
        Some(entry.pod.clone())
    }

    /// No node takes the pod: it waits for a change, unless there was one since it was taken.
    pub fn failed(&mut self, key: &str, now: Instant) {
        match self.entries.get(key).map(|entry| entry.place) {
            Some(Place::Taken(changes)) if changes == self.changes => {
                self.put(key, Place::Unschedulable(now + Duration::from_secs(UNSCHEDULABLE_S_MAX)));
            }
            Some(Place::Taken(_)) => self.release(key, now),
            _ => {}
        }
    }

    /// The decision could not be carried out: it is made again after the back-off.
    pub fn retry(&mut self, key: &str, now: Instant) {
        if matches!(self.entries.get(key).map(|entry| entry.place), Some(Place::Taken(_))) {
            self.release(key, now);
        }
    }

    /// Something changed that may make room for pods.
    pub fn cluster_changed(&mut self, now: Instant) {
        self.changes += 1;
        let waiting = self.entries.iter().filter(|(_, entry)| matches!(entry.place, Place::Unschedulable(_)));
        let waiting: Vec<String> = waiting.map(|(key, _)| key.clone()).collect();
        waiting.iter().for_each(|key| self.release(key, now));
    }

    pub fn keys(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    pub fn has_ready(&mut self, now: Instant) -> bool {
        self.wake(now);
        !self.active.is_empty()
    }

    /// When the next waiting pod becomes active by itself.
    pub fn next_wake(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    /// How many pods are active, in back-off and unschedulable (the figures of `scheduler_pending_pods`).
    pub fn pending(&self) -> (usize, usize, usize) {
        let backoff = self.entries.values().filter(|entry| matches!(entry.place, Place::Backoff(_))).count();
        (self.active.len(), backoff, self.timed.len() - backoff)
    }
}

fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(20);
    Duration::from_millis((BACKOFF_MS_MIN << doublings).min(BACKOFF_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelstone_client::Object;
    use serde_json::json;

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        let pod = json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": {"containers": [], "priority": priority}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
    }

    fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|pod| pod.pod.name().to_owned())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn priority_then_arrival() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 5), ("c", 5), ("d", -1)] {
            queue.add(pod(name, priority), now);
        }
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
        assert_eq!(order, ["b", "c", "a", "d"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_waits_for_a_change_and_its_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        popped(&mut queue, now);
        queue.failed("n/a", now);
        assert_eq!(popped(&mut queue, now + 5 * SECOND), None);
        assert_eq!(queue.pending(), (0, 0, 1));
        queue.cluster_changed(now);
        assert_eq!((popped(&mut queue, now), queue.pending()), (None, (0, 1, 0)));
        assert_eq!(popped(&mut queue, now + SECOND).as_deref(), Some("a"));
        // A change while the decision is being made counts, and the back-off doubles.
        queue.cluster_changed(now + SECOND);
        queue.failed("n/a", now + SECOND);
        assert_eq!(popped(&mut queue, now + 2 * SECOND), None);
        assert_eq!(popped(&mut queue, now + 3 * SECOND).as_deref(), Some("a"));
        queue.failed("n/a", now + 3 * SECOND);
        assert_eq!(popped(&mut queue, now + SECOND * 303).as_deref(), Some("a"));
        assert_eq!(backoff(1), SECOND);
        assert_eq!(backoff(u32::MAX), 10 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_pod_is_tried_again_but_a_changed_status_is_not_enough() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(pod("a", 0), now);
        popped(&mut queue, now);
        queue.failed("n/a", now);
        queue.add(pod("a", 0), now);
        assert_eq!(queue.pending(), (0, 0, 1));
        queue.add(pod("a", 1), now);
        assert_eq!(queue.pending(), (0, 1, 0));
        queue.remove("n/a");
        assert_eq!((queue.pending(), queue.next_wake()), ((0, 0, 0), None));
    }
}
