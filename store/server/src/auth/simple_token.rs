//! Tokens that every member can check by itself: they name the user and are sealed with a secret that the
//! members share as replicated state and that changes whenever auth is turned on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine};
use keelstone_env::Env;
use keelstone_mvcc::{AuthView, Caller};
use ring::hmac;
use tokio::time::Instant;

use crate::constants::{TOKENS_REMEMBERED_MAX, TOKEN_BYTES_MAX};

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// Version, time of issue, password revision.
const HEAD_BYTES: usize = 1 + 8 + 8;

/// Issues and checks tokens. A token is good for `ttl` after its issue and after each use at this member; not
/// after its user's password was changed, its user was removed, or auth was turned off.
pub(crate) struct SimpleTokens {
    ttl: Duration,
    /// When tokens were used last here, by their seal.
    used: Mutex<BTreeMap<[u8; MAC_BYTES], Instant>>,
}

impl SimpleTokens {
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, used: Mutex::default() }
    }

    /// A token for a user who has proved who it is; `None` if there is no such user or auth is off.
    pub fn issue(&self, env: &Env, users: &AuthView, user: &str) -> Option<String> {
        let password = users.password(user)?;
        let mut token = vec![VERSION];
        token.extend(env.unix_time_s().to_be_bytes());
        token.extend(password.revision.to_be_bytes());
        token.extend(user.as_bytes());
        let seal = hmac::sign(&key(users)?, &token);
        token.extend(seal.as_ref());
        Some(URL_SAFE_NO_PAD.encode(token))
    }

    /// The user whom a token names, if it is good now.
    pub fn verify(&self, env: &Env, users: &AuthView, token: &str) -> Option<Caller> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (sealed, seal) = token.split_at_checked(token.len().checked_sub(MAC_BYTES)?)?;
        hmac::verify(&key(users)?, sealed, seal).ok()?;
        let (head, user) = sealed.split_at_checked(HEAD_BYTES)?;
        let (version, head) = head.split_first()?;
        let (issued_s, password_revision) = head.split_at_checked(8)?;
        let issued_s = i64::from_be_bytes(issued_s.try_into().ok()?);
        let password_revision = u64::from_be_bytes(password_revision.try_into().ok()?);
        let user = std::str::from_utf8(user).ok()?;
        if *version != VERSION || users.password(user)?.revision != password_revision {
            return None;
        }
        let age = Duration::from_secs(env.unix_time_s().abs_diff(issued_s));
        self.still_good(seal.try_into().ok()?, age <= self.ttl, env.now()).then(|| users.caller(user.to_owned()))
    }

    /// Whether a token is fresh or was used not long ago; notes its use.
    fn still_good(&self, seal: [u8; MAC_BYTES], fresh: bool, now: Instant) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let recently = |last: Instant| now.saturating_duration_since(last) <= self.ttl;
        if let Some(last) = used.get_mut(&seal) {
            let good = fresh || recently(*last);
            if good {
                *last = now;
            }
            return good;
        }
        if fresh {
            if used.len() >= TOKENS_REMEMBERED_MAX {
                used.retain(|_, last| recently(*last));
            }
            // At the bound a token is good for its time from the issue only.
            if used.len() < TOKENS_REMEMBERED_MAX {
                used.insert(seal, now);
            }
        }
        fresh
    }
}

/// `None` while auth is off.
fn key(users: &AuthView) -> Option<hmac::Key> {
    let secret = users.token_secret();
    (!secret.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, secret))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keelstone_engine::MemEngine;
    use keelstone_etcd_api::pb;
    use keelstone_mvcc::{AuthChange, AuthCommand, AuthEnable, Command, Entry, Mvcc, MvccOptions, Op, Payload};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A state machine in which auth is on and root is a user.
    fn secured(token_secret: &'static str) -> Mvcc {
        let mvcc = Mvcc::open(Arc::new(MemEngine::volatile()), MvccOptions::default()).unwrap();
        let add = pb::AuthUserAddRequest { name: "root".into(), ..Default::default() };
        let grant = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
        let changes = [
            AuthChange::UserAdd(add),
            AuthChange::UserGrantRole(grant),
            AuthChange::Enable(AuthEnable { token_secret: token_secret.into(), secret_only: false }),
        ];
        for (index, change) in (1..).zip(changes) {
            let op = Some(Op::Auth(AuthCommand { change: Some(change) }));
            let payload = Payload::Command(Command { proposer_term: 1, op, caller: None });
            mvcc.apply(vec![Entry { index, term: 1, log_id: "log id".into(), payload }]).unwrap().remove(0).unwrap();
        }
        mvcc
    }

    #[test]
    fn broken_tokens_and_those_of_other_clusters_are_refused() {
        let (env, mvcc, tokens) = (Env::os(), secured("secret"), SimpleTokens::new(Duration::from_secs(60)));
        let token = tokens.issue(&env, &mvcc.auth(), "root").unwrap();
        assert_eq!(tokens.verify(&env, &mvcc.auth(), &token), Some(mvcc.auth().caller("root".into())));
        assert_eq!(tokens.issue(&env, &mvcc.auth(), "nobody"), None);
        assert_eq!(tokens.verify(&env, &secured("another secret").auth(), &token), None);
        let mut broken = token.clone().into_bytes();
        for at in 0..broken.len() {
            for flip in [1, 0x20, 0x80] {
                broken[at] ^= flip;
                let text = String::from_utf8_lossy(&broken).into_owned();
                assert_eq!(tokens.verify(&env, &mvcc.auth(), &text), None, "byte {at}");
                broken[at] ^= flip;
            }
        }
        for length in 0..token.len() {
            assert_eq!(tokens.verify(&env, &mvcc.auth(), &token[..length]), None);
        }
        assert_eq!(tokens.verify(&env, &mvcc.auth(), &"A".repeat(TOKEN_BYTES_MAX + 1)), None);
    }

    proptest::proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A seal says nothing about what is sealed; and whatever the text is, it is a token or none.
        #[test]
        fn nonsense_is_no_token(sealed in vec(any::<u8>(), 0..60), text in ".{0,120}", version in 0..3_u8) {
            let (env, mvcc, tokens) = (Env::os(), secured("secret"), SimpleTokens::new(Duration::from_secs(60)));
            let users = mvcc.auth();
            for head in [&[][..], &[version][..]] {
                let mut token = [head, &sealed].concat();
                let seal = hmac::sign(&key(&users).unwrap(), &token);
                token.extend(seal.as_ref());
                prop_assert_eq!(tokens.verify(&env, &users, &URL_SAFE_NO_PAD.encode(token)), None);
            }
            prop_assert_eq!(tokens.verify(&env, &users, &text), None);
        }
    }

    #[test]
    fn no_more_tokens_are_remembered_than_the_bound() {
        let tokens = SimpleTokens::new(Duration::from_secs(60));
        let now = Env::os().now();
        let seal = |number: usize| {
            let mut seal = [0; MAC_BYTES];
            seal[..8].copy_from_slice(&number.to_be_bytes());
            seal
        };
        for number in 0..=TOKENS_REMEMBERED_MAX {
            assert!(tokens.still_good(seal(number), true, now));
        }
        let later = now + Duration::from_secs(50);
        assert!(tokens.still_good(seal(0), false, later), "remembered, so that its use counts");
        assert!(!tokens.still_good(seal(TOKENS_REMEMBERED_MAX), false, later), "one too many to be remembered");
        // Those that were not used for long make place.
        let much_later = now + Duration::from_secs(100);
        assert!(tokens.still_good(seal(TOKENS_REMEMBERED_MAX), true, much_later));
        assert!(tokens.still_good(seal(TOKENS_REMEMBERED_MAX), false, much_later + Duration::from_secs(59)));
    }
}
