//! (1) What a member calls committed is durable on a quorum at that moment.

use crate::Violation;

const INVARIANT: &str = "commit on quorum (1)";

/// Everything before `committed_end` is committed, says `by`. `durable_ends` has for each voter the index before which
/// its log is durable, also if it is down: its disk keeps it.
///
/// # Errors
/// If fewer than a quorum have it.
pub fn check(by: &str, committed_end: u64, durable_ends: &[(&str, u64)]) -> Result<(), Violation> {
    let have = durable_ends.iter().filter(|(_, end)| *end >= committed_end).count();
    if have * 2 > durable_ends.len() {
        return Ok(());
    }
    let story = format!("{by} calls everything before {committed_end} committed, durable ends are {durable_ends:?}");
    Err(Violation::new(INVARIANT, story))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minority_is_not_enough() {
        assert!(check("a", 5, &[("a", 5), ("b", 9), ("c", 0)]).is_ok());
        assert!(check("a", 6, &[("a", 5), ("b", 9), ("c", 0)]).is_err());
        assert!(check("a", 5, &[("a", 5), ("b", 5), ("c", 0), ("d", 0)]).is_err());
        assert!(check("a", 1, &[]).is_err());
    }
}
