use std::sync::{
    atomic::{AtomicUsize, Ordering},
    Arc,
};

use keelstone_etcd_api::ApiError;

use crate::constants::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_REQUESTS_MAX};

/// Bounds what is being worked on at one time, in requests and bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    working: Arc<Working>,
}

#[derive(Debug, Default)]
struct Working {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// A place for one request and its answer; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    working: Arc<Working>,
    bytes: usize,
}

impl Admission {
    /// Takes a place for a request of so many bytes.
    ///
    /// # Errors
    /// `too many requests` if a bound is reached.
    pub fn admit(&self, bytes: usize) -> Result<Admitted, ApiError> {
        let requests = self.working.requests.fetch_add(1, Ordering::Relaxed);
        let mut admitted = Admitted { working: Arc::clone(&self.working), bytes: 0 };
        if requests >= IN_FLIGHT_REQUESTS_MAX {
            return Err(ApiError::TooManyRequests);
        }
        admitted.grow(bytes)?;
        Ok(admitted)
    }
}

impl Admitted {
    /// Takes room for so many bytes more, before they are there.
    ///
    /// # Errors
    /// `too many requests` if the bound is reached.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let before = self.working.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes = self.bytes.saturating_add(bytes);
        if before.saturating_add(bytes) > IN_FLIGHT_BYTES_MAX {
            return Err(ApiError::TooManyRequests);
        }
        Ok(())
    }
}

impl Admitted {
    /// Takes over the bytes of another place.
    pub fn join(&mut self, mut other: Self) {
        self.bytes = self.bytes.saturating_add(std::mem::take(&mut other.bytes));
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.working.requests.fetch_sub(1, Ordering::Relaxed);
        self.working.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_requests_are_bounded_and_given_back() {
        let admission = Admission::default();
        let full = admission.admit(IN_FLIGHT_BYTES_MAX).unwrap();
        assert_eq!(admission.admit(1).unwrap_err(), ApiError::TooManyRequests);
        drop(full);
        let mut growing = admission.admit(1).unwrap();
        growing.grow(IN_FLIGHT_BYTES_MAX - 1).unwrap();
        assert_eq!(growing.grow(1).unwrap_err(), ApiError::TooManyRequests);
        drop(growing);
        let (mut place, mut other) = (admission.admit(1).unwrap(), admission.admit(1).unwrap());
        other.grow(IN_FLIGHT_BYTES_MAX / 2).unwrap();
        place.join(other);
        assert_eq!(admission.admit(IN_FLIGHT_BYTES_MAX / 2).unwrap_err(), ApiError::TooManyRequests);
        drop(place);
        let all: Vec<_> = (0..IN_FLIGHT_REQUESTS_MAX).map(|_| admission.admit(1).unwrap()).collect();
        assert_eq!(admission.admit(1).unwrap_err(), ApiError::TooManyRequests);
        drop(all);
        assert!(admission.admit(IN_FLIGHT_BYTES_MAX).is_ok());
    }
}
