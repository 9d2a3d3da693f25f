//! (4) Members that have applied the same index have the same state.

use std::collections::BTreeMap;

use crate::Violation;

/// Collects (member, applied index, hash) and compares.
#[derive(Clone, Debug, Default)]
pub struct StateHashes {
    by_index: BTreeMap<u64, (String, u64)>,
    compared: u64,
}

impl StateHashes {
    /// # Errors
    /// If another member had another hash at the same index.
    pub fn observe(&mut self, member: &str, index: u64, hash: u64) -> Result<(), Violation> {
        match self.by_index.get(&index) {
            None => {
                self.by_index.insert(index, (member.to_owned(), hash));
                Ok(())
            }
            Some((_, known)) if *known == hash => {
                self.compared += 1;
                Ok(())
            }
            Some((other, known)) => Err(Violation::new(
                "equal state (4)",
                format!("at index {index} member {other} has hash {known:x}, member {member} has {hash:x}"),
            )),
        }
    }

    /// How often two observations of one index were compared.
    pub fn compared(&self) -> u64 {
        self.compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_two_states_at_one_index() {
        let mut hashes = StateHashes::default();
        hashes.observe("a", 7, 1).unwrap();
        hashes.observe("b", 7, 1).unwrap();
        hashes.observe("b", 8, 2).unwrap();
        assert!(hashes.observe("a", 8, 3).is_err());
        assert_eq!(hashes.compared(), 1);
    }
}
