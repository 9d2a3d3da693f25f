use std::sync::Arc;

use bcrypt::Version;
use bytes::Bytes;
use keelstone_env::Env;
use keelstone_etcd_api::ApiError;
use tokio::sync::Semaphore;

use crate::{
    constants::{BCRYPT_COST_MAX, BCRYPT_COST_MIN, PASSWORD_HASHES_AT_ONCE_MAX},
    StoreError,
};

/// bcrypt, as etcd: slow on purpose, so that it runs where blocking is allowed, and only a few at one time.
pub(crate) struct Passwords {
    cost: u32,
    places: Arc<Semaphore>,
}

impl Passwords {
    /// # Errors
    /// If the cost is outside of what bcrypt takes.
    pub fn new(cost: u32) -> Result<Self, StoreError> {
        if !(BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&cost) {
            let text = format!("bcrypt cost {cost} is not between {BCRYPT_COST_MIN} and {BCRYPT_COST_MAX}");
            return Err(StoreError::Config(text));
        }
        Ok(Self { cost, places: Arc::new(Semaphore::new(PASSWORD_HASHES_AT_ONCE_MAX)) })
    }

    /// The text form of a password's hash under a new salt.
    pub async fn hash(&self, env: &Env, password: String) -> Result<String, ApiError> {
        let mut salt = [0; 16];
        env.random().fill(&mut salt);
        let cost = self.cost;
        let work = move || bcrypt::hash_with_salt(password, cost, salt);
        let hashed = self.run(env, work).await?;
        // Go's bcrypt, which an etcd with this data would use, writes version 2a.
        hashed.map(|hashed| hashed.format_for_version(Version::TwoA)).map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            ApiError::InvalidAuthManagement
        })
    }

    /// Whether `hash` is of this password.
    pub async fn verify(&self, env: &Env, password: String, hash: Bytes) -> Result<bool, ApiError> {
        let work = move || {
            let Ok(hash) = std::str::from_utf8(&hash) else { return false };
            // A hash that cannot be read is no password's.
            bcrypt::verify(password, hash).unwrap_or(false)
        };
        self.run(env, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        env: &Env,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| ApiError::Stopped)?;
        // The place is held until the work is done, also if the caller goes away.
        Ok(env
            .offload(move || {
                let result = work();
                drop(place);
                result
            })
            .await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_are_known_again_and_hashes_of_go_are_read() {
        let (env, passwords) = (Env::os(), Passwords::new(4).unwrap());
        let hash: Bytes = passwords.hash(&env, "secret".into()).await.unwrap().into();
        assert!(hash.starts_with(b"$2a$04$"));
        assert!(passwords.verify(&env, "secret".into(), hash.clone()).await.unwrap());
        assert!(!passwords.verify(&env, "Secret".into(), hash).await.unwrap());
        // From golang.org/x/crypto/bcrypt's own test.
        let of_go = Bytes::from_static(b"$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga");
        assert!(passwords.verify(&env, "allmine".into(), of_go).await.unwrap());
        assert!(!passwords.verify(&env, "x".into(), Bytes::from_static(b"nonsense")).await.unwrap());
        assert!(Passwords::new(3).is_err() && Passwords::new(32).is_err());
    }
}
