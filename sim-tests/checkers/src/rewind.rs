//! (8) A client that goes on from what it has seen never sees an older state, whichever API server answers.

use std::collections::BTreeMap;

use crate::Violation;

/// The newest resourceVersion that each client has seen.
#[derive(Clone, Debug, Default)]
pub struct Newest(BTreeMap<String, i64>);

impl Newest {
    /// The client sees a state of this version.
    ///
    /// # Errors
    /// If it has seen a newer one.
    pub fn observe(&mut self, client: &str, version: i64) -> Result<(), Violation> {
        let newest = self.0.entry(client.to_owned()).or_insert(version);
        if version < *newest {
            let story = format!("{client} has seen resourceVersion {newest} and then {version}");
            return Err(Violation::new("no rewind (8)", story));
        }
        *newest = version;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_from_the_past_is_told() {
        let mut newest = Newest::default();
        newest.observe("a", 5).unwrap();
        newest.observe("a", 5).unwrap();
        newest.observe("b", 2).unwrap();
        newest.observe("a", 9).unwrap();
        assert!(newest.observe("a", 8).is_err());
    }
}
