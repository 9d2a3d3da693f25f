use std::sync::atomic::{AtomicUsize, Ordering};

use keelstone_etcd_api::ApiError;

use crate::constants::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_REQUESTS_MAX};

/// Bounds what is being worked on at one time, in requests and bytes.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

/// A place for one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    admission: &'a Admission,
    bytes: usize,
}

impl Admission {
    /// Takes a place for a request of so many bytes.
    ///
    /// # Errors
    /// `too many requests` if a bound is reached.
    pub fn admit(&self, bytes: usize) -> Result<Admitted<'_>, ApiError> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let admitted = Admitted { admission: self, bytes };
        if requests >= IN_FLIGHT_REQUESTS_MAX || bytes_before.saturating_add(bytes) > IN_FLIGHT_BYTES_MAX {
            return Err(ApiError::TooManyRequests);
        }
        Ok(admitted)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.admission.requests.fetch_sub(1, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
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
        let all: Vec<_> = (0..IN_FLIGHT_REQUESTS_MAX).map(|_| admission.admit(1).unwrap()).collect();
        assert_eq!(admission.admit(1).unwrap_err(), ApiError::TooManyRequests);
        drop(all);
        assert!(admission.admit(IN_FLIGHT_BYTES_MAX).is_ok());
    }
}
