//! (1) An acknowledged write is in the store's log of changes at the revision that its client was told, for
//! good: whatever crashed since. And the log holds nothing that no client wrote.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Call, Event, History, Outcome, Violation};

const INVARIANT: &str = "durability (1)";

/// Compares acknowledged writes with `log`, all changes in the order of their revisions as read at the end.
///
/// # Errors
/// A write that is missing, or a value in the log that nobody wrote.
pub fn check(history: &History, log: &[Event]) -> Result<(), Violation> {
    let by_revision: BTreeMap<(i64, &str), &Event> = log.iter().map(|e| ((e.revision, e.key.as_str()), e)).collect();
    let mut written: BTreeSet<&str> = BTreeSet::new();
    for operation in &history.operations {
        let (key, value) = match &operation.call {
            Call::Write { key, value } | Call::CompareAndSet { key, value, .. } => (key, value),
            Call::Read { .. } | Call::Delete { .. } => continue,
        };
        written.insert(value);
        let Outcome::Written { revision } = operation.outcome else { continue };
        match by_revision.get(&(revision, key.as_str())) {
            Some(event) if event.value.as_deref() == Some(value) => {}
            found => {
                let story = format!("{operation:?} was acknowledged, but at that revision the log has {found:?}");
                return Err(Violation::new(INVARIANT, story));
            }
        }
    }
    let keys: BTreeSet<&str> = history.operations.iter().map(|o| o.call.key()).collect();
    for event in log.iter().filter(|e| keys.contains(e.key.as_str())) {
        if let Some(value) = event.value.as_deref().filter(|v| !written.contains(v)) {
            return Err(Violation::new(INVARIANT, format!("nobody wrote {value:?} of {event:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;

    fn history(value: &str, revision: i64) -> History {
        let call = Call::Write { key: "k".into(), value: value.into() };
        let outcome = Outcome::Written { revision };
        History { operations: vec![Operation { client: 0, start_us: 0, end_us: 1, call, outcome }] }
    }

    fn event(revision: i64, value: &str) -> Event {
        Event { revision, key: "k".into(), value: Some(value.into()) }
    }

    #[test]
    fn accepts_a_kept_write_and_rejects_a_lost_moved_or_invented_one() {
        assert!(check(&history("a", 2), &[event(2, "a")]).is_ok());
        assert!(check(&history("a", 2), &[]).is_err());
        assert!(check(&history("a", 2), &[event(3, "a")]).is_err());
        assert!(check(&history("a", 2), &[event(2, "a"), event(3, "z")]).is_err());
    }
}
