//! Perturbation: what an API server may do to its clients and rarely does, done on purpose to those whom a plan
//! names, so that an operator's programs show what they do then. Beside it, every write of those clients is
//! recorded with what the client had been sent before, and called stale if it had not been sent everything.
//!
//! Only the latency of answers, legal choices among states and legal errors are touched: what other clients see
//! and what is stored is as without a plan.

mod judge;
mod knowledge;
mod plan;
mod record;
mod trouble;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use keelstone_env::Env;
use keelstone_machinery::{gvk::GroupResource, status::ApiResult};
use rand::{rngs::SmallRng, Rng, SeedableRng};
use tokio::time::{sleep, Instant};

pub use self::{
    knowledge::{Knowledge, View},
    plan::{Effect, Plan, Rule},
    record::{Missed, Report, WriteRecord},
    trouble::Trouble,
};
use crate::{
    constants::{ACTORS_MAX, STALENESS_SAMPLES_MAX, STALENESS_SAMPLE_INTERVAL},
    context::Context,
};

/// The plan at work.
pub struct Perturber {
    env: Env,
    plan: Plan,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    actors: BTreeMap<String, Actor>,
    /// Revisions and when they were first seen, the oldest first.
    samples: VecDeque<(Instant, i64)>,
    report: Report,
}

struct Actor {
    dice: SmallRng,
    knowledge: Knowledge,
    /// Resources whose next watch from a resourceVersion is told to list again.
    expired: BTreeSet<String>,
}

impl Perturber {
    pub fn new(env: Env, plan: Plan) -> Self {
        Self { env, plan, inner: Mutex::default() }
    }

    /// Whether anything is done for this user.
    pub fn observes(&self, user: &str) -> bool {
        self.plan.observes(user)
    }

    /// What becomes of a request; rolls the user's dice.
    pub fn begin(&self, user: &str, resource: &str, verb: &str) -> Trouble {
        let mut inner = self.lock();
        let Some(actor) = inner.actor(self.plan.seed, user) else { return Trouble::default() };
        let mut trouble = self.plan.trouble(user, resource, verb, |bound| actor.dice.random_range(0..bound));
        if verb == "watch" {
            trouble.gone |= actor.expired.remove(resource);
        }
        trouble
    }

    /// What the user was sent so far.
    pub fn knowledge(&self, user: &str) -> Knowledge {
        self.lock().actors.get(user).map(|actor| actor.knowledge.clone()).unwrap_or_default()
    }

    /// Notes what is sent to the user.
    pub fn learn(&self, user: &str, learned: impl FnOnce(&mut Knowledge)) {
        if let Some(actor) = self.lock().actor(self.plan.seed, user) {
            learned(&mut actor.knowledge);
        }
    }

    /// The user's watch was cut: the next one has to list again.
    pub fn cut(&self, user: &str, resource: &str) {
        if let Some(actor) = self.lock().actor(self.plan.seed, user) {
            actor.expired.insert(resource.to_owned());
        }
    }

    /// The store has had this revision by now.
    pub fn passed(&self, revision: i64) {
        let now = self.env.now();
        let mut inner = self.lock();
        let samples = &mut inner.samples;
        let due = samples
            .back()
            .is_none_or(|(at, newest)| revision > *newest && now.duration_since(*at) >= STALENESS_SAMPLE_INTERVAL);
        if due {
            samples.push_back((now, revision));
            if samples.len() > STALENESS_SAMPLES_MAX {
                samples.pop_front();
            }
        }
    }

    /// A revision that the store had that long ago or a little longer; `None` if nothing is known from then.
    pub fn revision_ago(&self, ago: Duration) -> Option<i64> {
        let now = self.env.now();
        let inner = self.lock();
        let old = inner.samples.iter().rev().find(|(at, _)| now.duration_since(*at) >= ago);
        old.map(|(_, revision)| *revision)
    }

    /// What was recorded.
    pub fn report(&self) -> Report {
        self.lock().report.clone()
    }

    fn record(&self, record: WriteRecord) {
        self.lock().report.add(record);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The user's place; `None` if there are too many users, who are then left alone.
    fn actor(&mut self, seed: u64, user: &str) -> Option<&mut Actor> {
        if !self.actors.contains_key(user) {
            if self.actors.len() >= ACTORS_MAX {
                return None;
            }
            let seed =
                user.bytes().fold(seed ^ FNV_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
            let dice = SmallRng::seed_from_u64(seed);
            let actor = Actor { dice, knowledge: Knowledge::default(), expired: BTreeSet::new() };
            self.actors.insert(user.to_owned(), actor);
        }
        self.actors.get_mut(user)
    }
}

/// FNV-1a: mixes the user's name into the seed.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// What the plan does to a request before it is worked on.
///
/// # Errors
/// The answer of a request that is not done.
pub async fn begin(perturber: &Arc<Perturber>, context: &Context) -> ApiResult<Perturbed> {
    let (user, info) = (&context.user.name, &context.info);
    let resource = (GroupResource { group: info.group.clone(), resource: info.resource.clone() }).to_string();
    let trouble = perturber.begin(user, &resource, &info.verb);
    // As of now: what is sent during a delay came too late for the client's decision. Reads are not judged.
    let knowledge = if info.is_read() { Knowledge::default() } else { perturber.knowledge(user) };
    if !trouble.delay.is_zero() {
        sleep(trouble.delay).await;
    }
    let from = context.query.get("resourceVersion");
    let has_position = match info.verb.as_str() {
        "watch" => !["", "0"].contains(&from),
        _ => !context.query.get("continue").is_empty(),
    };
    match trouble.refusal(has_position) {
        Some(refusal) => Err(refusal),
        None => Ok(Perturbed { perturber: perturber.clone(), trouble, knowledge: Arc::new(knowledge) }),
    }
}

/// A request's own view of the plan at work: what becomes of it, and what its client knew when it came.
#[derive(Clone)]
pub struct Perturbed {
    pub perturber: Arc<Perturber>,
    pub trouble: Trouble,
    pub knowledge: Arc<Knowledge>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perturber(plan: &str) -> Perturber {
        Perturber::new(Env::os(), Plan::parse(plan).unwrap())
    }

    #[tokio::test]
    async fn one_seed_disturbs_the_same_requests_of_a_user_whatever_others_do() {
        let plan = "{seed: 3, rules: [{users: ['*'], effect: throttle, percent: 50}]}";
        let struck = |perturber: &Perturber, user: &str| {
            (0..64).map(|_| perturber.begin(user, "pods", "get").throttle).collect::<Vec<_>>()
        };
        let (one, other) = (perturber(plan), perturber(plan));
        struck(&other, "bob");
        let ann = struck(&one, "ann");
        assert_eq!(ann, struck(&other, "ann"));
        assert!(ann.contains(&true) && ann.contains(&false));
        assert_ne!(ann, struck(&one, "bob"));
    }

    #[tokio::test(start_paused = true)]
    async fn old_revisions_are_found_by_their_age() {
        let perturber = perturber("{}");
        assert_eq!(perturber.revision_ago(Duration::ZERO), None);
        for revision in [5, 6, 7] {
            perturber.passed(revision);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(perturber.revision_ago(Duration::from_millis(1500)), Some(6));
        assert_eq!(perturber.revision_ago(Duration::from_secs(60)), None);
        for revision in 8..10 + i64::try_from(STALENESS_SAMPLES_MAX).unwrap() {
            perturber.passed(revision);
            tokio::time::advance(STALENESS_SAMPLE_INTERVAL).await;
        }
        assert_eq!(perturber.lock().samples.len(), STALENESS_SAMPLES_MAX);
    }

    #[tokio::test]
    async fn one_user_more_than_fits_is_left_alone() {
        let perturber = perturber("{rules: [{users: ['*'], effect: fail}]}");
        for i in 0..ACTORS_MAX {
            assert!(perturber.begin(&i.to_string(), "pods", "get").fail);
        }
        assert!(!perturber.begin("late", "pods", "get").fail);
        assert!(perturber.begin("0", "pods", "get").fail);
    }
}
