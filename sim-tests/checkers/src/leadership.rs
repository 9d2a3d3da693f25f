//! (12) One acting leader: the times at which two holders of one lease acted do not overlap, and a term that has ended
//! is over.

use crate::Violation;

const INVARIANT: &str = "one acting leader (12)";

/// A holder acted from `start_us` to `end_us`, by one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acting {
    pub lease: String,
    pub holder: String,
    pub start_us: u64,
    pub end_us: u64,
}

/// # Errors
/// Two different holders that acted at one time.
pub fn check(acting: &[Acting]) -> Result<(), Violation> {
    let mut sorted: Vec<&Acting> = acting.iter().collect();
    sorted.sort_by_key(|a| (a.lease.clone(), a.start_us, a.end_us));
    for (i, a) in sorted.iter().enumerate() {
        let later = sorted[i + 1..].iter().take_while(|b| b.lease == a.lease && b.start_us < a.end_us);
        if let Some(b) = later.into_iter().find(|b| b.holder != a.holder) {
            return Err(Violation::new(INVARIANT, format!("{a:?} and {b:?} acted at one time")));
        }
    }
    Ok(())
}

/// For histories in which each term is one `Acting` with a name of its own: nobody takes an ended term up again, because
/// what was sent in it may still be on its way.
///
/// # Errors
/// A term that began twice, and what [`check`] finds.
pub fn check_terms(terms: &[Acting]) -> Result<(), Violation> {
    for (i, a) in terms.iter().enumerate() {
        if let Some(b) = terms[i + 1..].iter().find(|b| (&b.lease, &b.holder) == (&a.lease, &a.holder)) {
            return Err(Violation::new(INVARIANT, format!("{a:?} and {b:?} are one term")));
        }
    }
    check(terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acting(holder: &str, start_us: u64, end_us: u64) -> Acting {
        Acting { lease: "l".into(), holder: holder.into(), start_us, end_us }
    }

    #[test]
    fn accepts_a_handover_and_rejects_an_overlap() {
        assert!(check(&[acting("a", 0, 5), acting("b", 5, 9), acting("a", 9, 12)]).is_ok());
        assert!(check(&[acting("a", 0, 5), acting("a", 3, 9)]).is_ok());
        assert!(check(&[acting("a", 0, 5), acting("b", 4, 9)]).is_err());
        assert!(check(&[acting("a", 0, 50), acting("a", 2, 3), acting("b", 40, 41)]).is_err());
    }

    #[test]
    fn rejects_a_term_that_is_taken_up_again() {
        assert!(check_terms(&[acting("a/1", 0, 5), acting("a/2", 7, 9)]).is_ok());
        assert!(check_terms(&[acting("a/1", 0, 5), acting("a/1", 7, 9)]).is_err());
        assert!(check_terms(&[acting("a/1", 0, 5), acting("a/2", 4, 9)]).is_err());
    }
}
