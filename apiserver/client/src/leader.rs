use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use keelstone_env::fault::{self, Point, Sight};
use keelstone_env::Env;
use tokio::time::{sleep, sleep_until, timeout, timeout_at, Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    client::{Client, WriteGuard},
    error::{ClientError, ClientResult},
    object::Object,
    store::parse_version,
};

/// Which lease is held, by whom, and for how long. The defaults are those of Kubernetes' components.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    pub namespace: String,
    pub name: String,
    /// Unique for each candidate, also across its restarts.
    pub identity: String,
    /// A candidate takes the lease over once it has seen no renewal for this long.
    pub lease_s: u32,
    /// A leader that could not renew for this long stops. Less than `lease_s`.
    pub renew_deadline: Duration,
    /// The pause between two tries to take or renew.
    pub retry_period: Duration,
    /// Give the lease back at a graceful stop, so that another takes it at once.
    pub release_on_stop: bool,
}

impl LeaderConfig {
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_s: 15,
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release_on_stop: true,
        }
    }
}

/// The proof of leadership that work is done under. Cheap to clone.
///
/// It ends by itself at its deadline, measured on the local monotonic clock from the moment BEFORE the last
/// successful renewal was sent: a deposed leader stops before another candidate may have waited the lease out.
#[derive(Clone)]
pub struct Leadership {
    env: Env,
    identity: Arc<str>,
    epoch: u64,
    renewal: Arc<Mutex<Renewal>>,
    ended: CancellationToken,
}

/// The last write of the lease that took effect.
#[derive(Clone, Copy)]
struct Renewal {
    /// Before it was sent.
    began: Instant,
    /// The version that it led to.
    version: u64,
    /// Leadership lasts at least until then.
    deadline: Instant,
}

impl Leadership {
    /// The lease's `leaseTransitions`: grows with each change of leader.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Leadership lasts at least until then.
    pub fn deadline(&self) -> Instant {
        self.renewal().deadline
    }

    fn renewal(&self) -> Renewal {
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_leader(&self) -> bool {
        !self.ended.is_cancelled() && self.env.now() < self.deadline()
    }

    /// Cancelled when leadership is lost or given up.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    fn renewed(&self, renewal: Renewal) {
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner) = renewal;
    }
}

impl WriteGuard for Leadership {
    fn check(&self) -> ClientResult<()> {
        if self.is_leader() {
            Ok(())
        } else {
            Err(ClientError::NotLeader(format!("{} leads no longer", self.identity)))
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(Leadership::deadline(self))
    }

    fn written_since(&self, since: Instant) -> Option<u64> {
        let renewal = self.renewal();
        (renewal.began >= since).then_some(renewal.version)
    }
}

/// What was last seen of the lease, and when.
#[derive(Default)]
struct Observed {
    lease: Option<Lease>,
    at: Option<Instant>,
}

/// Takes part in the election of one leader through a `coordination.k8s.io/v1` Lease, with the rules of
/// client-go's leaderelection: a foreign lease is dead when this process has seen no change of it for its
/// duration; clocks of different machines are never compared.
///
/// Where client-go ends the process when leadership is lost, this stands for election again, as another candidate
/// would: the lease of its own old term is waited out like a foreign one, and taken with a new epoch.
pub struct LeaderElector {
    client: Client,
    config: LeaderConfig,
    observed: Observed,
    /// The last epoch that something may have been done under.
    led: Option<u64>,
}

impl LeaderElector {
    pub fn new(client: &Client, config: LeaderConfig) -> Self {
        Self { client: client.unguarded(), config, observed: Observed::default(), led: None }
    }

    /// Until `stop` is cancelled: waits for leadership, then runs `work` under it. `work` is dropped when
    /// leadership ends, and `run` then stands for election again; it returns when `work` returns by itself, or
    /// after `stop` (the lease is then given back).
    pub async fn run<W, F>(&mut self, stop: &CancellationToken, mut work: W)
    where
        W: FnMut(Leadership) -> F,
        F: Future<Output = ()>,
    {
        while !stop.is_cancelled() {
            let leadership = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                leadership = self.acquire() => leadership,
            };
            let finished = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = self.hold(&leadership) => false,
                () = work(leadership.clone()) => true,
            };
            leadership.ended.cancel();
            let (lease, identity, epoch) = (&self.config.name, &self.config.identity, leadership.epoch);
            if finished {
                tracing::info!(%lease, %identity, epoch, "leadership given up");
                self.release(&leadership).await;
                return;
            }
            fault::sight(Sight::LeaderDeposed);
            tracing::info!(%lease, %identity, epoch, "leadership lost");
        }
    }

    /// Waits until this candidate holds the lease.
    pub async fn acquire(&mut self) -> Leadership {
        loop {
            fault::pause(Point::LeaderAcquire).await;
            let began = self.client.env().now();
            let attempt = timeout(self.config.renew_deadline, self.try_take()).await;
            match attempt {
                Ok(Ok(Some(lease))) => {
                    let leadership = self.leadership(&lease, began);
                    if leadership.is_leader() {
                        self.led = Some(leadership.epoch);
                        tracing::info!(lease = %self.config.name, identity = %self.config.identity,
                            epoch = leadership.epoch, "leading");
                        return leadership;
                    }
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(lease = %self.config.name, %error, "could not take the lease"),
                Err(_) => tracing::debug!(lease = %self.config.name, "could not take the lease in time"),
            }
            self.pause().await;
        }
    }

    fn leadership(&self, lease: &Lease, began: Instant) -> Leadership {
        Leadership {
            env: self.client.env().clone(),
            identity: self.config.identity.as_str().into(),
            epoch: epoch_of(lease),
            renewal: Arc::new(Mutex::new(self.renewal(lease, began))),
            ended: CancellationToken::new(),
        }
    }

    fn renewal(&self, lease: &Lease, began: Instant) -> Renewal {
        let version = parse_version(lease.resource_version());
        Renewal { began, version, deadline: began + self.config.renew_deadline }
    }

    /// Renews until that has not succeeded for the renew deadline, or the lease is somebody else's.
    pub async fn hold(&mut self, leadership: &Leadership) {
        loop {
            sleep_until(leadership.deadline().min(self.client.env().now() + self.config.retry_period)).await;
            fault::pause(Point::LeaderRenew).await;
            let began = self.client.env().now();
            if began >= leadership.deadline() {
                break;
            }
            match timeout_at(leadership.deadline(), self.try_renew(leadership.epoch)).await {
                Ok(Ok(Some(lease))) => leadership.renewed(self.renewal(&lease, began)),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => tracing::info!(lease = %self.config.name, %error, "could not renew the lease"),
                Err(_) => break,
            }
        }
        leadership.ended.cancel();
    }

    /// Gives the lease back, if it is still held.
    pub async fn release(&self, leadership: &Leadership) {
        leadership.ended.cancel();
        if !self.config.release_on_stop || self.client.env().now() >= leadership.deadline() {
            return;
        }
        let api = self.api();
        let given_back = async {
            let mut lease = api.get(&self.config.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.config.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(self.wall());
            api.update(&lease).await.map(drop)
        };
        match timeout_at(leadership.deadline(), given_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(lease = %self.config.name, %error, "could not give the lease back"),
            Err(_) => tracing::info!(lease = %self.config.name, "could not give the lease back in time"),
        }
    }

    async fn pause(&self) {
        // client-go's jitter factor for acquiring is 1.2.
        let period_ms = u64::try_from(self.config.retry_period.as_millis()).unwrap_or(u64::MAX);
        let jitter_ms = self.client.env().random().below(period_ms + period_ms / 5);
        sleep(Duration::from_millis(period_ms + jitter_ms)).await;
    }

    fn api(&self) -> Api<Lease> {
        self.client.namespaced(&self.config.namespace)
    }

    fn wall(&self) -> MicroTime {
        let since = self.client.env().wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        MicroTime(Timestamp::from_microsecond(micros).unwrap_or_default())
    }

    /// One try to take the lease. `None`: somebody holds it, or this candidate's last term is not yet waited out.
    async fn try_take(&mut self) -> ClientResult<Option<Lease>> {
        let Some(lease) = self.api().get_opt(&self.config.name).await? else {
            let metadata = ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                ..ObjectMeta::default()
            };
            // A lease that somebody removed must not bring an epoch back that was worked under.
            let transitions = self.led.map_or(0, |led| i32::try_from(led + 1).unwrap_or(i32::MAX));
            let spec = Some(self.spec(self.wall(), transitions));
            return self.api().create(&Lease { metadata, spec }).await.map(Some);
        };
        let now = self.client.env().now();
        self.observe(&lease, now);
        let old = lease.spec.clone().unwrap_or_default();
        let holder = old.holder_identity.as_deref().unwrap_or_default();
        // Taken by an earlier try whose answer got lost: nothing was done under it.
        let taken_before = holder == self.config.identity && self.led.is_none_or(|led| epoch_of(&lease) > led);
        let duration_s = u64::try_from(old.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        let waited_out = self.observed.at.is_some_and(|at| at + Duration::from_secs(duration_s) <= now);
        if !taken_before && !holder.is_empty() && !waited_out {
            return Ok(None);
        }
        let transitions = old.lease_transitions.unwrap_or(0).saturating_add(i32::from(!taken_before));
        let spec = self.spec(self.wall(), transitions);
        self.write(lease, spec, now).await.map(Some)
    }

    /// One try to renew the lease. `None`: it is somebody else's by now.
    async fn try_renew(&mut self, epoch: u64) -> ClientResult<Option<Lease>> {
        let Some(lease) = self.api().get_opt(&self.config.name).await? else { return Ok(None) };
        let now = self.client.env().now();
        self.observe(&lease, now);
        let old = lease.spec.clone().unwrap_or_default();
        if old.holder_identity.as_deref() != Some(&self.config.identity) || epoch_of(&lease) != epoch {
            return Ok(None);
        }
        let spec = self.spec(self.wall(), old.lease_transitions.unwrap_or(0));
        self.write(lease, LeaseSpec { acquire_time: old.acquire_time, ..spec }, now).await.map(Some)
    }

    fn observe(&mut self, lease: &Lease, now: Instant) {
        if self.observed.lease.as_ref() != Some(lease) {
            self.observed = Observed { lease: Some(lease.clone()), at: Some(now) };
        }
    }

    async fn write(&mut self, lease: Lease, mut spec: LeaseSpec, now: Instant) -> ClientResult<Lease> {
        if let Some(old) = &lease.spec {
            spec.strategy.clone_from(&old.strategy);
            spec.preferred_holder.clone_from(&old.preferred_holder);
        }
        let written = self.api().update(&Lease { spec: Some(spec), ..lease }).await?;
        self.observe(&written, now);
        Ok(written)
    }

    fn spec(&self, now: MicroTime, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(self.config.lease_s).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

fn epoch_of(lease: &Lease) -> u64 {
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
    u64::try_from(transitions).unwrap_or(0)
}
