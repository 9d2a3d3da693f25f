//! When a revision came to be, by what clients were told: the store's revisions are linearizable, so what is known of
//! any of them bounds all others.
//!
//! ```text
//! read at 7 began at 30 ms   => every revision after 7 came after 30 ms
//! write 9 answered at 50 ms  => every revision up to 9 came before 50 ms
//!                               so revision 8 came between 30 and 50 ms
//! ```

use std::collections::BTreeMap;

use keelstone_chaos_store::Line;
use keelstone_checkers::{Operation, Outcome};

#[derive(Debug, Default)]
pub struct Windows {
    /// By revision: the latest start of a call that was answered with it or an earlier one.
    starts: BTreeMap<i64, u64>,
    /// By revision: the earliest end of a call that was answered with it or a later one.
    ends: BTreeMap<i64, u64>,
}

impl Windows {
    /// From the lines that hold operations of registers.
    pub fn of(lines: &[&Line]) -> Self {
        let operations = lines.iter().filter(|l| l.source == "objects").filter_map(|l| l.read::<Operation>().ok());
        let told = operations.filter_map(|o| match o.outcome {
            Outcome::Read { revision, .. } | Outcome::Written { revision } if revision > 0 => {
                Some((revision, o.start_us, o.end_us))
            }
            _ => None,
        });
        Self::from_calls(told)
    }

    fn from_calls(calls: impl Iterator<Item = (i64, u64, u64)>) -> Self {
        let mut windows = Self::default();
        for (revision, start_us, end_us) in calls {
            let start = windows.starts.entry(revision).or_insert(start_us);
            *start = start_us.max(*start);
            let end = windows.ends.entry(revision).or_insert(end_us);
            *end = end_us.min(*end);
        }
        let mut latest = 0;
        for start in windows.starts.values_mut() {
            latest = latest.max(*start);
            *start = latest;
        }
        let mut earliest = u64::MAX;
        for end in windows.ends.values_mut().rev() {
            earliest = earliest.min(*end);
            *end = earliest;
        }
        windows
    }

    /// It came after this moment.
    pub fn after_us(&self, revision: i64) -> u64 {
        self.starts.range(..revision).next_back().map_or(0, |(_, at)| *at)
    }

    /// It came before this moment; `u64::MAX` if nobody knows.
    pub fn before_us(&self, revision: i64) -> u64 {
        self.ends.range(revision..).next().map_or(u64::MAX, |(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_bound_the_revisions_around_them() {
        let windows = Windows::from_calls([(7, 30, 40), (5, 35, 90), (9, 41, 50), (12, 60, 70)].into_iter());
        assert_eq!((windows.after_us(8), windows.before_us(8)), (35, 50));
        // A later revision that was answered sooner bounds the earlier one.
        assert_eq!((windows.after_us(5), windows.before_us(5)), (0, 40));
        assert_eq!((windows.after_us(13), windows.before_us(13)), (60, u64::MAX));
    }
}
