//! (6) A lease never ends before its time to live as its holder can know it, and what is revoked is gone.

use serde::{Deserialize, Serialize};

use crate::Violation;

const INVARIANT: &str = "leases (6)";

/// One lease with one key on it, in the order of what its holder did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub client: u32,
    pub id: i64,
    pub ttl_us: u64,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Acknowledged: the lease was granted or kept alive by a call that began at `start_us`.
    Alive { start_us: u64 },
    /// A keep-alive was told that there is no such lease.
    Gone { end_us: u64 },
    /// The key was put with the lease, acknowledged.
    Put,
    /// A linearizable read of the key, from `start_us` to `end_us`.
    Read { start_us: u64, end_us: u64, present: bool },
    /// The lease was revoked, acknowledged at `end_us` of a call that began at `start_us`.
    Revoked { start_us: u64, end_us: u64 },
    /// It was perhaps revoked, by a call that began at `start_us`.
    MaybeRevoked { start_us: u64 },
}

/// # Errors
/// A key or a lease that was gone before its time, or one that outlived its revocation.
pub fn check(sessions: &[Session]) -> Result<(), Violation> {
    sessions.iter().try_for_each(check_session)
}

fn check_session(session: &Session) -> Result<(), Violation> {
    let fail = |story: &str, step: &Step| Err(Violation::new(INVARIANT, format!("{story}: {step:?} of {session:?}")));
    // No one knows of an end before this moment.
    let mut safe_until_us = 0;
    let (mut put, mut revoked) = (false, false);
    for step in &session.steps {
        match step {
            Step::Alive { start_us } => safe_until_us = safe_until_us.max(start_us + session.ttl_us),
            Step::Put => put = true,
            Step::Revoked { start_us, .. } => {
                revoked = true;
                safe_until_us = safe_until_us.min(*start_us);
            }
            Step::MaybeRevoked { start_us } => safe_until_us = safe_until_us.min(*start_us),
            Step::Gone { end_us } if *end_us < safe_until_us => return fail("a lease ended before its time", step),
            Step::Gone { .. } => {}
            Step::Read { end_us, present: false, .. } if put && *end_us < safe_until_us => {
                return fail("a key was gone before its lease's time", step);
            }
            Step::Read { present: true, .. } if revoked => return fail("a key outlived its lease", step),
            Step::Read { .. } => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(steps: &[Step]) -> Session {
        let begin = [Step::Alive { start_us: 0 }, Step::Put];
        Session { client: 0, id: 7, ttl_us: 100, steps: [&begin, steps].concat() }
    }

    fn read(start_us: u64, present: bool) -> Step {
        Step::Read { start_us, end_us: start_us + 1, present }
    }

    #[test]
    fn accepts_an_end_after_its_time_and_after_a_revocation() {
        let kept = [read(10, true), Step::Alive { start_us: 50 }, read(140, true), read(151, false)];
        assert_eq!(check(&[session(&kept)]), Ok(()));
        // It may live longer.
        assert_eq!(check(&[session(&[read(500, true)])]), Ok(()));
        let revoked = [Step::Revoked { start_us: 20, end_us: 30 }, read(31, false)];
        assert_eq!(check(&[session(&revoked)]), Ok(()));
        let perhaps = [Step::MaybeRevoked { start_us: 20 }, read(31, false)];
        assert_eq!(check(&[session(&perhaps)]), Ok(()));
    }

    #[test]
    fn rejects_an_early_end() {
        assert!(check(&[session(&[read(50, false)])]).is_err());
        assert!(check(&[session(&[Step::Gone { end_us: 99 }])]).is_err());
        assert!(check(&[session(&[Step::Alive { start_us: 50 }, read(120, false)])]).is_err());
    }

    #[test]
    fn rejects_a_key_that_outlives_its_lease() {
        assert!(check(&[session(&[Step::Revoked { start_us: 20, end_us: 30 }, read(31, true)])]).is_err());
    }
}
