use std::sync::Arc;

use keelstone_machinery::status::{ApiResult, ApiStatus};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::constants::{READS_IN_FLIGHT_MAX, RETRY_AFTER_S, WRITES_IN_FLIGHT_MAX};

/// Bounds the requests that are worked on at once.
pub struct InFlight {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(READS_IN_FLIGHT_MAX)),
            writes: Arc::new(Semaphore::new(WRITES_IN_FLIGHT_MAX)),
        }
    }
}

impl InFlight {
    /// A place for one request; it is free again when the permit is dropped.
    ///
    /// # Errors
    /// 429 if all places are taken.
    pub fn enter(&self, read: bool) -> ApiResult<OwnedSemaphorePermit> {
        let places = if read { &self.reads } else { &self.writes };
        places
            .clone()
            .try_acquire_owned()
            .map_err(|_| ApiStatus::too_many_requests("Too many requests, please try again later.", RETRY_AFTER_S))
    }

    /// Requests in flight: reading, mutating.
    pub fn counts(&self) -> (usize, usize) {
        (READS_IN_FLIGHT_MAX - self.reads.available_permits(), WRITES_IN_FLIGHT_MAX - self.writes.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_given_and_one_more_is_refused() {
        let places = InFlight::default();
        let held: Vec<_> = (0..WRITES_IN_FLIGHT_MAX).map(|_| places.enter(false).unwrap()).collect();
        let refused = places.enter(false).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_s()), (429, Some(RETRY_AFTER_S)));
        assert!(places.enter(true).is_ok());
        drop(held);
        assert!(places.enter(false).is_ok());
    }
}
