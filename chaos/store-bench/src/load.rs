//! Closed loops (a client asks again when it is answered) and open ones (a request is due at its time).

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

use tokio::time::{sleep, sleep_until, timeout, Instant};

use crate::{
    cluster::Cluster,
    constants::{CALL_TIME_MAX, WARM_UP},
    histogram::Histogram,
    Outcome,
};

/// What was seen of one system in one row; rounds are merged.
#[derive(Clone, Default)]
pub struct Sample {
    pub latencies: Histogram,
    /// What the throughput counts, where it is not the number of latencies.
    pub counted: Option<u64>,
    pub failed: u64,
    pub took: Duration,
    /// Of all members together.
    pub cpu: Duration,
    /// Of the largest member.
    pub resident_bytes: u64,
}

impl Sample {
    pub fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.counted = match (self.counted, other.counted) {
            (None, None) => None,
            (mine, theirs) => Some(mine.unwrap_or(0) + theirs.unwrap_or(0)),
        };
        self.failed += other.failed;
        self.took += other.took;
        self.cpu += other.cpu;
        self.resident_bytes = self.resident_bytes.max(other.resident_bytes);
    }

    pub fn count(&self) -> u64 {
        self.counted.unwrap_or_else(|| self.latencies.total())
    }

    pub fn per_s(&self) -> f64 {
        self.count() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Microseconds of the servers' processors for each request.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.count() as f64).max(1.0)
    }
}

#[derive(Default)]
struct Seen {
    latencies: Histogram,
    failed: u64,
}

/// Runs each client in a loop for `length`, after a short time that is not counted.
pub async fn closed<C>(cluster: &Cluster, length: Duration, clients: Vec<C>) -> Outcome<Sample>
where
    C: AsyncFnMut() -> Outcome<()> + 'static,
{
    let start = Instant::now() + WARM_UP;
    let end = start + length;
    let seen = Rc::new(RefCell::new(Seen::default()));
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let seen = Rc::clone(&seen);
            tokio::task::spawn_local(async move {
                loop {
                    let before = Instant::now();
                    if before >= end {
                        return;
                    }
                    let done = timeout(CALL_TIME_MAX, client()).await;
                    let counts = before >= start;
                    match done {
                        Ok(Ok(())) if counts => seen.borrow_mut().latencies.add(before.elapsed()),
                        Ok(Ok(())) => {}
                        Ok(Err(_)) | Err(_) => {
                            seen.borrow_mut().failed += u64::from(counts);
                            sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
            })
        })
        .collect();
    sleep_until(start).await;
    let cpu_before = cluster.cpu_time();
    sleep_until(end).await;
    let cpu = cluster.cpu_time().saturating_sub(cpu_before);
    for task in tasks {
        // A client that panicked has answered nothing.
        let _ = task.await;
    }
    let seen = seen.take();
    Ok(Sample {
        latencies: seen.latencies,
        counted: None,
        failed: seen.failed,
        took: length,
        cpu,
        resident_bytes: cluster.resident_bytes(),
    })
}

/// Starts `per_s` requests a second until `stop` is over; latency counts from when a request was due.
pub async fn open<R>(per_s: u64, stop: impl Future<Output = ()>, request: impl Fn(u64) -> R) -> (Histogram, u64)
where
    R: Future<Output = Outcome<()>> + 'static,
{
    let seen = Rc::new(RefCell::new(Seen::default()));
    let start = Instant::now();
    let send = async {
        for n in 0.. {
            let due = start + Duration::from_nanos(1_000_000_000 * n / per_s);
            sleep_until(due).await;
            let (seen, call) = (Rc::clone(&seen), request(n));
            tokio::task::spawn_local(async move {
                match timeout(CALL_TIME_MAX, call).await {
                    Ok(Ok(())) => seen.borrow_mut().latencies.add(due.elapsed()),
                    Ok(Err(_)) | Err(_) => seen.borrow_mut().failed += 1,
                }
            });
        }
    };
    tokio::select! {
        biased;
        () = stop => {}
        () = send => {}
    }
    // The last ones are still under way; they are few.
    sleep(Duration::from_millis(200)).await;
    let seen = seen.borrow();
    (seen.latencies.clone(), seen.failed)
}
