//! (4) At most one leader in a term, whoever tells of it.

use std::collections::BTreeMap;

use crate::Violation;

/// Collects who is said to lead in which term.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    leaders: BTreeMap<u64, (u64, String)>,
}

impl Terms {
    /// `member` says that `leader` leads in `term`.
    ///
    /// # Errors
    /// If somebody said otherwise.
    pub fn observe(&mut self, member: &str, term: u64, leader: u64) -> Result<(), Violation> {
        let (known, teller) = self.leaders.entry(term).or_insert_with(|| (leader, member.to_owned()));
        if *known == leader {
            return Ok(());
        }
        let story = format!("in term {term} {teller} says that {known} leads, {member} says {leader}");
        Err(Violation::new("one leader a term", story))
    }

    /// How many terms had a leader.
    pub fn count(&self) -> usize {
        self.leaders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_in_one_term_are_told() {
        let mut terms = Terms::default();
        terms.observe("a", 1, 7).unwrap();
        terms.observe("b", 1, 7).unwrap();
        terms.observe("b", 2, 8).unwrap();
        assert!(terms.observe("a", 2, 7).is_err());
        assert_eq!(terms.count(), 2);
    }
}
