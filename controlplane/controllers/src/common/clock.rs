use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use keelstone_env::Env;

/// The wall clock in whole seconds, as the API keeps times.
pub fn now(env: &Env) -> Timestamp {
    let since = env.wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_second(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)).unwrap_or_default()
}

/// The time from `earlier` to `later`; zero if it is not later.
pub fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    let nanos = later.as_nanosecond().saturating_sub(earlier.as_nanosecond());
    Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

/// The time from an object's field until now; zero if there is none.
pub fn age(time: Option<&Time>, now: Timestamp) -> Duration {
    time.map_or(Duration::ZERO, |time| between(time.0, now))
}

/// A whole number of seconds; negative ones count as zero.
pub fn seconds(seconds: impl Into<i64>) -> Duration {
    Duration::from_secs(u64::try_from(seconds.into()).unwrap_or(0))
}
