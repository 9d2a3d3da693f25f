use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use keelstone_client::{parse_version, Api, ClientResult, ListOptions, Object, Store};
use keelstone_env::{
    bug::{self, Bug},
    Env,
};
use tokio::time::Instant;

use crate::constants::{EXPECTATION_S_MAX, UNCERTAIN_MS_MAX};

/// Keeps a controller from acting on a cache that does not show its own earlier writes, which would make it
/// create or delete too much. It serves the purpose of client-go's ControllerExpectations, but asks what the
/// cache shows instead of counting events, so that a missed, doubled or reordered event cannot mislead it:
///
/// - a creation is seen when the cache has reached the version that the API server answered with;
/// - a deletion is seen when the cache no longer has that uid, or has it terminating;
/// - a write of unknown outcome is seen when the cache has reached the version of a renewal of the leader's lease that
///   was sent once the write could no longer be on its way to the store, [`UNCERTAIN_MS_MAX`] after it was given up.
///
/// Why a renewal, and not a read: a read that a quorum confirms shows what is committed, and a leader of the store that
/// is stuck (its disk is full, or slow) may have the write in its log and commit it later. A log grows at its end only:
/// what lies in any log when the renewal is proposed can be committed before the renewal, or never.
///
/// What stays unseen for [`EXPECTATION_S_MAX`] is forgotten.
pub struct Expectations {
    env: Env,
    by_key: Mutex<BTreeMap<String, Expected>>,
}

struct Expected {
    version: u64,
    /// Key and uid of deleted objects.
    deleted: BTreeMap<String, String>,
    /// A write of unknown outcome may take effect until then.
    uncertain_until: Option<Instant>,
    expires: Instant,
}

impl Expectations {
    pub fn new(env: &Env) -> Self {
        Self { env: env.clone(), by_key: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Expected>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, key: &str, change: impl FnOnce(&mut Expected)) {
        let expires = self.env.now() + Duration::from_secs(EXPECTATION_S_MAX);
        let mut by_key = self.lock();
        let expected = by_key.entry(key.to_owned()).or_insert_with(|| Expected {
            version: 0,
            deleted: BTreeMap::new(),
            uncertain_until: None,
            expires,
        });
        expected.expires = expires;
        change(expected);
    }

    /// `key`'s controller created or changed an object: pass what the API server answered.
    pub fn wrote<T: Object>(&self, key: &str, result: &ClientResult<T>) {
        match result {
            Ok(object) => {
                let version = parse_version(object.resource_version());
                self.expect(key, |expected| expected.version = expected.version.max(version));
            }
            Err(error) if error.is_outcome_unknown() => self.uncertain(key),
            Err(_) => {}
        }
    }

    /// `key`'s controller deleted `object`: pass what the API server answered.
    pub fn deleted<T: Object, R>(&self, key: &str, object: &T, result: &ClientResult<R>) {
        match result {
            Ok(_) => {
                self.expect(key, |expected| {
                    expected.deleted.insert(object.key(), object.uid().to_owned());
                });
            }
            Err(error) if error.is_outcome_unknown() => self.uncertain(key),
            Err(_) => {}
        }
    }

    /// A write for `key` was sent, and its outcome is not known.
    pub fn uncertain(&self, key: &str) {
        let until = self.env.now() + Duration::from_millis(UNCERTAIN_MS_MAX);
        self.expect(key, |expected| expected.uncertain_until = Some(until));
    }

    /// The owner is gone.
    pub fn forget(&self, key: &str) {
        self.lock().remove(key);
    }

    /// Whether `store` shows all own writes for `key`. If not, look again after an event or
    /// [`crate::constants::CATCH_UP_RETRY_MS`].
    ///
    /// # Errors
    /// If the version after a write of unknown outcome cannot be read (only of a client that stands under no guard).
    pub async fn caught_up<T: Object>(&self, key: &str, api: &Api<T>, store: &Store<T>) -> ClientResult<bool> {
        if bug::planted(Bug::ExpectationsForgotten) {
            return Ok(true);
        }
        match self.uncertain_until(key) {
            Some(until) if self.env.now() < until => return Ok(false),
            Some(until) => {
                let Some(version) = decided(api, until).await? else { return Ok(false) };
                self.expect(key, |expected| {
                    expected.version = expected.version.max(version);
                    if expected.uncertain_until == Some(until) {
                        expected.uncertain_until = None;
                    }
                });
            }
            None => {}
        }
        Ok(self.check(key, store))
    }

    fn uncertain_until(&self, key: &str) -> Option<Instant> {
        self.lock().get(key)?.uncertain_until
    }

    fn check<T: Object>(&self, key: &str, store: &Store<T>) -> bool {
        let mut by_key = self.lock();
        let Some(expected) = by_key.get_mut(key) else { return true };
        let visible =
            |object: &str, uid: &str| store.get(object).is_some_and(|o| o.uid() == uid && !o.is_terminating());
        expected.deleted.retain(|object, uid| visible(object, uid));
        let seen =
            expected.deleted.is_empty() && store.version() >= expected.version && expected.uncertain_until.is_none();
        let expired = self.env.now() >= expected.expires;
        if expired && !seen {
            tracing::info!(key, "own writes were not seen in time; going on without");
        }
        if seen || expired {
            by_key.remove(key);
        }
        seen || expired
    }
}

/// The version at which it is decided what became of all writes that were on their way no longer at `since`; `None`: not
/// known yet. For a client without a guard there is only the newest version, at which a log may still hold some.
async fn decided<T: Object>(api: &Api<T>, since: Instant) -> ClientResult<Option<u64>> {
    if let Some(guard) = api.client().guard() {
        return Ok(guard.written_since(since));
    }
    let newest = api.within("").list(&ListOptions { limit: Some(1), ..ListOptions::default() }).await?;
    Ok(Some(parse_version(&newest.resource_version)))
}
