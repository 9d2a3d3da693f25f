use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use keelstone_env::WallClock;

/// Where simulated wall clocks begin: 2026-01-01T00:00:00Z.
pub const EPOCH_UNIX_S: u64 = 1_767_225_600;

/// Simulated time since the beginning of the run.
#[cfg(not(madsim))]
pub(crate) fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// Simulated time since the beginning of the run.
#[cfg(madsim)]
pub(crate) fn elapsed() -> Duration {
    madsim::time::TimeHandle::try_current().map(|time| time.elapsed()).unwrap_or_default()
}

/// A host's wall clock: off by a constant, fast or slow by a rate, and it jumps.
#[derive(Clone, Debug, Default)]
pub struct SimClock(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Ahead (or behind) by so much at `since`.
    offset_us: i64,
    /// Gains so many microseconds in a second.
    drift_ppm: i64,
    since: Duration,
}

impl State {
    fn offset_us_at(&self, now: Duration) -> i64 {
        let elapsed_us = now.saturating_sub(self.since).as_micros() as i64;
        self.offset_us + elapsed_us / 1_000 * self.drift_ppm / 1_000
    }
}

impl SimClock {
    /// A clock that is off by this much.
    pub fn new(offset_us: i64) -> Self {
        Self(Arc::new(Mutex::new(State { offset_us, ..State::default() })))
    }

    /// From `now` (simulated time) on the clock gains so many microseconds in a second; negative: it loses.
    pub fn set_drift_ppm(&self, now: Duration, drift_ppm: i64) {
        let mut state = self.state();
        state.offset_us = state.offset_us_at(now);
        state.since = now;
        state.drift_ppm = drift_ppm;
    }

    /// The clock is set forward or back.
    pub fn jump(&self, by_us: i64) {
        self.state().offset_us += by_us;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the clock is locked")
    }
}

impl WallClock for SimClock {
    fn since_unix_epoch(&self) -> Duration {
        let now = elapsed();
        let offset_us = self.state().offset_us_at(now);
        let right = Duration::from_secs(EPOCH_UNIX_S) + now;
        let offset = Duration::from_micros(offset_us.unsigned_abs());
        if offset_us < 0 {
            right.saturating_sub(offset)
        } else {
            right + offset
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_adds_up_and_a_jump_stays() {
        let clock = SimClock::new(1_000);
        let second = Duration::from_secs(1);
        clock.set_drift_ppm(second, 500);
        assert_eq!(clock.state().offset_us_at(3 * second), 2_000);
        clock.set_drift_ppm(3 * second, -1_000);
        assert_eq!(clock.state().offset_us_at(4 * second), 1_000);
        clock.jump(-5_000_000);
        assert_eq!(clock.state().offset_us_at(4 * second), -4_999_000);
        assert!(clock.since_unix_epoch() < Duration::from_secs(EPOCH_UNIX_S));
    }
}
