//! (17) When input rests, nobody writes: heartbeats aside, the log stands still (eventually stable reconciliation).

use crate::{objects::Change, Violation};

/// Resources that change for ever: node and leader leases, the nodes' own heartbeats, events.
const RESTLESS: [&str; 3] = ["leases", "nodes", "events"];

/// `changes` are those of a time of rest.
///
/// # Errors
/// The first change that nobody had asked for.
pub fn check(changes: &[Change]) -> Result<(), Violation> {
    match changes.iter().find(|change| !RESTLESS.contains(&change.resource.as_str())) {
        Some(change) => Err(Violation::new("rest (17)", format!("although nothing was asked for: {change:?}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::tests::set;

    #[test]
    fn a_write_at_rest_is_told() {
        let beat = set(1, "leases", "node-1", json!({}));
        assert!(check(std::slice::from_ref(&beat)).is_ok());
        assert!(check(&[beat, set(2, "pods", "a", json!({}))]).is_err());
    }
}
