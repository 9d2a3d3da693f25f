//! (6) A lock that is held by a lease: two clients never know at one time that they hold it, and with fencing tokens
//! (Kleppmann 2016) a write of an earlier holder never comes after one of a later.

use serde::{Deserialize, Serialize};

use crate::Violation;

const INVARIANT: &str = "lock (6)";

/// What a holder did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub client: u32,
    pub lock: String,
    /// The revision at which it became the holder: its fencing token.
    pub token: i64,
    /// It was told that it holds the lock.
    pub from_us: u64,
    /// Up to then its lease cannot have ended: its time to live after the start of the last acknowledged keep-alive, or
    /// the moment at which it began to let go.
    pub until_us: u64,
    /// Revisions of the writes that the fenced resource took from it.
    pub writes: Vec<i64>,
}

/// # Errors
/// Two holders at one time, one token for two, or a write that came after one of a later holder.
pub fn check(sessions: &[Session]) -> Result<(), Violation> {
    let fail = |story: String| Err(Violation::new(INVARIANT, story));
    let mut by_token: Vec<&Session> = sessions.iter().collect();
    by_token.sort_by_key(|s| (s.lock.clone(), s.token));
    for pair in by_token.windows(2).filter(|p| p[0].lock == p[1].lock) {
        let (earlier, later) = (pair[0], pair[1]);
        if earlier.token == later.token {
            return fail(format!("one token for two holders: {earlier:?}, {later:?}"));
        }
        if later.from_us < earlier.until_us && later.client != earlier.client {
            return fail(format!("two holders at one time: {earlier:?}, {later:?}"));
        }
        if let Some(late) = earlier.writes.iter().max().filter(|w| **w > later.token) {
            return fail(format!("a write at {late} got past the fence of a later holder: {earlier:?}, {later:?}"));
        }
    }
    match by_token.iter().find(|s| s.writes.iter().any(|w| *w <= s.token)) {
        Some(session) => fail(format!("a write before its holder held the lock: {session:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(client: u32, token: i64, from_us: u64, until_us: u64, writes: &[i64]) -> Session {
        Session { client, lock: "l".into(), token, from_us, until_us, writes: writes.to_vec() }
    }

    #[test]
    fn accepts_holders_one_after_another() {
        assert_eq!(check(&[session(0, 5, 0, 10, &[6, 7]), session(1, 9, 10, 20, &[10])]), Ok(()));
        let other = Session { lock: "m".into(), ..session(1, 6, 5, 9, &[8]) };
        assert_eq!(check(&[session(0, 5, 0, 10, &[7]), other]), Ok(()));
    }

    #[test]
    fn rejects_two_holders_at_one_time() {
        assert!(check(&[session(0, 5, 0, 10, &[]), session(1, 9, 9, 20, &[])]).is_err());
    }

    #[test]
    fn rejects_a_write_past_the_fence() {
        assert!(check(&[session(0, 5, 0, 10, &[6, 12]), session(1, 9, 11, 20, &[])]).is_err());
        assert!(check(&[session(0, 5, 0, 10, &[4])]).is_err());
    }

    #[test]
    fn rejects_one_token_for_two() {
        assert!(check(&[session(0, 5, 0, 10, &[]), session(1, 5, 11, 20, &[])]).is_err());
    }
}
