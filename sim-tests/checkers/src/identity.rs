//! (13) At most one pod of an identity runs at a time, by what the pods themselves wrote down.

use serde::{Deserialize, Serialize};

use crate::Violation;

/// A process of `identity` ran at least from `start_us` to `end_us`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    pub identity: String,
    /// Which run it was: of which pod, since when.
    pub run: String,
    pub start_us: u64,
    pub end_us: u64,
}

/// # Errors
/// Two runs of one identity at one time.
pub fn check(all: &[Ran]) -> Result<(), Violation> {
    let mut sorted: Vec<&Ran> = all.iter().collect();
    sorted.sort_by_key(|r| (&r.identity, r.start_us, r.end_us));
    let mut longest: Option<&Ran> = None;
    for ran in sorted {
        if let Some(before) = longest.filter(|b| b.identity == ran.identity) {
            if before.run != ran.run && ran.start_us <= before.end_us {
                let story = format!("{before:?} and {ran:?} ran at one time");
                return Err(Violation::new("at most one of an identity (13)", story));
            }
        }
        if longest.is_none_or(|b| b.identity != ran.identity || ran.end_us > b.end_us) {
            longest = Some(ran);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(identity: &str, run: &str, start_us: u64, end_us: u64) -> Ran {
        Ran { identity: identity.into(), run: run.into(), start_us, end_us }
    }

    #[test]
    fn one_after_the_other_is_right_and_beside_each_other_is_not() {
        let right = [ran("a", "1", 0, 5), ran("a", "2", 6, 9), ran("b", "3", 2, 8), ran("b", "3", 4, 6)];
        assert_eq!(check(&right), Ok(()));
        assert!(check(&[ran("a", "1", 0, 5), ran("a", "2", 5, 9)]).is_err());
        // Within a longer one that began before another.
        assert!(check(&[ran("a", "1", 0, 50), ran("a", "1", 2, 3), ran("a", "2", 40, 41)]).is_err());
    }
}
