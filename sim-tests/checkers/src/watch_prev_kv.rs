//! (5) A watch that asks for the values before its events gets the right ones; an event that made its key has none.

use std::collections::BTreeMap;

use crate::{Event, Violation};

const INVARIANT: &str = "watch prev_kv (5)";

/// An event as it came, with the value before it as the watch told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithPrev {
    pub event: Event,
    pub prev: Option<String>,
}

/// `log` holds all changes in the order of revisions, from the first on.
///
/// # Errors
/// The first event whose value before is not that of the log.
pub fn check(seen: &[WithPrev], log: &[Event]) -> Result<(), Violation> {
    let mut before: BTreeMap<(i64, &str), Option<&str>> = BTreeMap::new();
    let mut state: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for event in log {
        let last = state.insert(&event.key, event.value.as_deref()).flatten();
        before.insert((event.revision, &event.key), last);
    }
    for WithPrev { event, prev } in seen {
        match before.get(&(event.revision, event.key.as_str())) {
            Some(right) if *right == prev.as_deref() => {}
            Some(right) => {
                let story = format!("before {event:?} the value was {right:?}, the watch said {prev:?}");
                return Err(Violation::new(INVARIANT, story));
            }
            None => return Err(Violation::new(INVARIANT, format!("{event:?} is not in the log"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: i64, value: Option<&str>) -> Event {
        Event { revision, key: "k".into(), value: value.map(str::to_owned) }
    }

    fn with_prev(revision: i64, value: Option<&str>, prev: Option<&str>) -> WithPrev {
        WithPrev { event: event(revision, value), prev: prev.map(str::to_owned) }
    }

    #[test]
    fn a_wrong_missing_or_invented_value_is_told() {
        let log = [event(2, Some("a")), event(3, Some("b")), event(4, None), event(5, Some("c"))];
        let right = [
            with_prev(2, Some("a"), None),
            with_prev(3, Some("b"), Some("a")),
            with_prev(4, None, Some("b")),
            with_prev(5, Some("c"), None),
        ];
        assert!(check(&right, &log).is_ok());
        assert!(check(&[with_prev(3, Some("b"), None)], &log).is_err());
        assert!(check(&[with_prev(3, Some("b"), Some("x"))], &log).is_err());
        assert!(check(&[with_prev(5, Some("c"), Some("b"))], &log).is_err());
        assert!(check(&[with_prev(9, Some("c"), None)], &log).is_err());
    }
}
