//! (2) The key-value store is linearizable: all operations can be put in one order that agrees with real
//! time and in which every answer is right. Linearizability is local (Herlihy and Wing 1990, theorem 1), so
//! each key is searched alone, by Wing and Gong's algorithm with Lowe's memoisation (2017). In addition the
//! revisions in the answers must agree with real time across all keys.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Call, History, Operation, Outcome, Violation};

const INVARIANT: &str = "linearizability (2)";

/// # Errors
/// The first violation found, with the operations of its key.
pub fn check(history: &History) -> Result<(), Violation> {
    check_revisions(history)?;
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        if !matches!(operation.outcome, Outcome::Failed { .. }) {
            by_key.entry(operation.call.key()).or_default().push(operation);
        }
    }
    for (key, operations) in by_key {
        check_key(key, operations)?;
    }
    Ok(())
}

fn revision_of(outcome: &Outcome) -> Option<i64> {
    match outcome {
        // The client was not told.
        Outcome::Refused { revision: 0 } | Outcome::Written { revision: 0 } => None,
        Outcome::Read { revision, .. } | Outcome::Written { revision } | Outcome::Refused { revision } => {
            Some(*revision)
        }
        Outcome::Failed { .. } | Outcome::Unknown { .. } => None,
    }
}

/// Revisions never go back in real time: an operation that starts after another ended has a revision at
/// least as high, a write a higher one. Two writes never share a revision.
fn check_revisions(history: &History) -> Result<(), Violation> {
    let mut by_end: Vec<(&Operation, i64)> =
        history.operations.iter().filter_map(|o| Some((o, revision_of(&o.outcome)?))).collect();
    let mut by_start = by_end.clone();
    by_end.sort_by_key(|(o, _)| o.end_us);
    by_start.sort_by_key(|(o, _)| o.start_us);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<(&Operation, i64)> = None;
    for (operation, revision) in by_start {
        while let Some((earlier, r)) = ended.next_if(|(o, _)| o.end_us < operation.start_us) {
            if highest.is_none_or(|(_, h)| r > h) {
                highest = Some((earlier, r));
            }
        }
        if let Some((earlier, r)) = highest {
            // A deletion of nothing is answered with the current revision.
            let written =
                matches!(operation.outcome, Outcome::Written { .. }) && !matches!(operation.call, Call::Delete { .. });
            if revision < r || (written && revision == r) {
                return Err(Violation::new(
                    INVARIANT,
                    format!("{operation:?} has revision {revision}, but began after {earlier:?} had ended with {r}"),
                ));
            }
        }
    }
    let mut writers: BTreeMap<i64, &Operation> = BTreeMap::new();
    for operation in &history.operations {
        if let Outcome::Written { revision } = operation.outcome {
            // A deletion of nothing is answered with the current revision.
            if matches!(operation.call, Call::Delete { .. }) {
                continue;
            }
            if let Some(other) = writers.insert(revision, operation) {
                return Err(Violation::new(
                    INVARIANT,
                    format!("one revision for two writes: {other:?}, {operation:?}"),
                ));
            }
        }
    }
    Ok(())
}

/// A key's state: the value, and its modification revision where the history tells it. A write of unknown
/// outcome leaves an unknown revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    value: Option<String>,
    mod_revision: Option<i64>,
}

/// The state after `operation`, or `None` if its answer is impossible in `state`.
fn step(state: &State, operation: &Operation) -> Option<State> {
    let same = |mod_revision: i64| state.mod_revision.is_none_or(|known| known == mod_revision);
    match (&operation.call, &operation.outcome) {
        (Call::Read { .. }, Outcome::Read { value, mod_revision, .. }) => (state.value == *value
            && same(*mod_revision))
        .then(|| State { value: value.clone(), mod_revision: Some(*mod_revision) }),
        (Call::Write { value, .. }, Outcome::Written { revision }) => {
            Some(State { value: Some(value.clone()), mod_revision: Some(*revision) })
        }
        (Call::CompareAndSet { expected, value, .. }, Outcome::Written { revision }) => {
            let matches = same(*expected) && (*expected == 0) == state.value.is_none();
            matches.then(|| State { value: Some(value.clone()), mod_revision: Some(*revision) })
        }
        (Call::CompareAndSet { expected, .. }, Outcome::Refused { .. }) => {
            let certainly_equal = state.mod_revision == Some(*expected);
            (!certainly_equal).then(|| state.clone())
        }
        (Call::Delete { .. }, Outcome::Written { .. }) => Some(State { value: None, mod_revision: Some(0) }),
        // Carried out after all, at a revision that nobody was told.
        (Call::Write { value, .. }, Outcome::Unknown { .. }) => {
            Some(State { value: Some(value.clone()), mod_revision: None })
        }
        (Call::CompareAndSet { expected, value, .. }, Outcome::Unknown { .. }) => {
            let matches = same(*expected) && (*expected == 0) == state.value.is_none();
            matches.then(|| State { value: Some(value.clone()), mod_revision: None })
        }
        (Call::Delete { .. }, Outcome::Unknown { .. }) => Some(State { value: None, mod_revision: Some(0) }),
        _ => None,
    }
}

fn check_key(key: &str, mut operations: Vec<&Operation>) -> Result<(), Violation> {
    // A read of unknown outcome says nothing.
    operations.retain(|o| !(o.call.is_read() && matches!(o.outcome, Outcome::Unknown { .. })));
    operations.sort_by_key(|o| (o.start_us, o.end_us));
    let start = State { value: None, mod_revision: Some(0) };
    let mut search = Search { operations: &operations, seen: BTreeSet::new(), furthest: 0 };
    if search.run(start) {
        return Ok(());
    }
    let near: Vec<String> =
        operations.iter().skip(search.furthest.saturating_sub(6)).take(14).map(|o| format!("  {o:?}")).collect();
    Err(Violation::new(
        INVARIANT,
        format!(
            "no order explains the answers for key {key}; stuck near operation {}:\n{}",
            search.furthest,
            near.join("\n")
        ),
    ))
}

struct Search<'a> {
    operations: &'a [&'a Operation],
    seen: BTreeSet<(Vec<usize>, usize, State)>,
    furthest: usize,
}

/// Where a search stands: every operation before `first` is placed, and of the later ones those in `ahead`.
#[derive(Clone)]
struct Place {
    first: usize,
    ahead: Vec<usize>,
    state: State,
}

impl Search<'_> {
    /// Depth first over all orders that agree with real time; true if one explains all known answers.
    fn run(&mut self, start: State) -> bool {
        let mut stack = vec![Place { first: 0, ahead: Vec::new(), state: start }];
        while let Some(place) = stack.pop() {
            self.furthest = self.furthest.max(place.first);
            if self.finished(&place) {
                return true;
            }
            if !self.seen.insert((place.ahead.clone(), place.first, place.state.clone())) {
                continue;
            }
            stack.extend(self.successors(&place));
        }
        false
    }

    fn unknown(&self, index: usize) -> bool {
        matches!(self.operations[index].outcome, Outcome::Unknown { .. })
    }

    /// All operations with a known answer are placed; the others may never have happened.
    fn finished(&self, place: &Place) -> bool {
        (place.first..self.operations.len()).all(|i| place.ahead.contains(&i) || self.unknown(i))
    }

    fn successors(&self, place: &Place) -> Vec<Place> {
        // The next operation must begin before every other unplaced one with a known answer ends.
        let mut deadline_us = u64::MAX;
        let mut next = Vec::new();
        for i in place.first..self.operations.len() {
            let operation = self.operations[i];
            if operation.start_us > deadline_us {
                break;
            }
            if place.ahead.contains(&i) {
                continue;
            }
            if !self.unknown(i) {
                deadline_us = deadline_us.min(operation.end_us);
            }
            next.push(i);
        }
        next.retain(|&i| self.operations[i].start_us <= deadline_us);
        next.into_iter().rev().filter_map(|i| self.place(place, i)).collect()
    }

    fn place(&self, place: &Place, index: usize) -> Option<Place> {
        let state = step(&place.state, self.operations[index])?;
        let mut ahead = place.ahead.clone();
        ahead.push(index);
        ahead.sort_unstable();
        let mut first = place.first;
        while ahead.first() == Some(&first) {
            ahead.remove(0);
            first += 1;
        }
        // An operation of unknown outcome that is skipped for good would hold `first` back; it stays
        // placeable, and `ahead` grows by at most the operations in flight.
        Some(Place { first, ahead, state })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn op(start_us: u64, end_us: u64, call: Call, outcome: Outcome) -> Operation {
        Operation { client: 0, start_us, end_us, call, outcome }
    }

    fn write(start: u64, end: u64, value: &str, revision: i64) -> Operation {
        op(start, end, Call::Write { key: "k".into(), value: value.into() }, Outcome::Written { revision })
    }

    fn maybe(start: u64, end: u64, value: &str) -> Operation {
        let call = Call::Write { key: "k".into(), value: value.into() };
        op(start, end, call, Outcome::Unknown { error: "timeout".into() })
    }

    fn read(start: u64, end: u64, value: Option<&str>, mod_revision: i64, revision: i64) -> Operation {
        let value = value.map(str::to_owned);
        op(start, end, Call::Read { key: "k".into() }, Outcome::Read { value, mod_revision, revision })
    }

    fn verdict(operations: &[Operation]) -> bool {
        check(&History { operations: operations.to_vec() }).is_ok()
    }

    #[test]
    fn accepts_what_is_right() {
        assert!(verdict(&[write(0, 10, "a", 2), read(11, 12, Some("a"), 2, 2)]));
        // Concurrent: either order.
        assert!(verdict(&[write(0, 10, "a", 2), read(1, 2, None, 0, 1), read(3, 4, Some("a"), 2, 2)]));
        // An unknown write may take effect late, or never.
        assert!(verdict(&[maybe(0, 5, "x"), read(10, 11, None, 0, 1), read(12, 13, Some("x"), 2, 2)]));
        assert!(verdict(&[maybe(0, 5, "x"), read(10, 11, None, 0, 1)]));
    }

    #[test]
    fn rejects_a_stale_read() {
        assert!(!verdict(&[write(0, 1, "a", 2), write(2, 3, "b", 3), read(4, 5, Some("a"), 2, 3)]));
    }

    #[test]
    fn rejects_a_lost_write() {
        assert!(!verdict(&[write(0, 1, "a", 2), read(2, 3, None, 0, 2)]));
    }

    #[test]
    fn rejects_a_revision_that_goes_back() {
        assert!(!verdict(&[write(0, 1, "a", 5), read(2, 3, Some("a"), 5, 4)]));
        assert!(!verdict(&[write(0, 1, "a", 5), write(2, 3, "b", 5)]));
    }

    #[test]
    fn accepts_a_deletion_of_nothing_at_the_current_revision() {
        let nothing = op(2, 3, Call::Delete { key: "other".into() }, Outcome::Written { revision: 5 });
        assert!(verdict(&[write(0, 1, "a", 5), nothing]));
    }

    #[test]
    fn rejects_a_value_that_was_read_and_then_unread() {
        assert!(!verdict(&[maybe(0, 5, "x"), read(10, 11, Some("x"), 2, 2), read(12, 13, None, 0, 2)]));
    }

    #[test]
    fn rejects_two_compare_and_sets_on_one_revision() {
        let cas = |start, end, value: &str, revision| {
            let call = Call::CompareAndSet { key: "k".into(), expected: 2, value: value.into() };
            op(start, end, call, Outcome::Written { revision })
        };
        assert!(verdict(&[write(0, 1, "a", 2), cas(2, 9, "b", 3)]));
        assert!(!verdict(&[write(0, 1, "a", 2), cas(2, 9, "b", 3), cas(3, 8, "c", 4)]));
    }

    /// Tries every order of every subset of the unknown operations: slow, plain, surely right.
    fn brute_force(operations: &[Operation]) -> bool {
        fn go(operations: &[Operation], placed: &mut Vec<usize>, state: &State) -> bool {
            let open: Vec<usize> = (0..operations.len()).filter(|i| !placed.contains(i)).collect();
            if open.iter().all(|&i| matches!(operations[i].outcome, Outcome::Unknown { .. })) {
                return true;
            }
            for &i in &open {
                let blocked = open.iter().any(|&j| {
                    j != i
                        && !matches!(operations[j].outcome, Outcome::Unknown { .. })
                        && operations[j].end_us < operations[i].start_us
                });
                if blocked {
                    continue;
                }
                if let Some(next) = step(state, &operations[i]) {
                    placed.push(i);
                    if go(operations, placed, &next) {
                        return true;
                    }
                    placed.pop();
                }
            }
            false
        }
        go(operations, &mut Vec::new(), &State { value: None, mod_revision: Some(0) })
    }

    fn any_operation() -> impl Strategy<Value = Operation> {
        (0..30u64, 1..12u64, 0..3usize, 0..4usize, 0..3i64).prop_map(|(start, length, kind, value, revision)| {
            let text = ["a", "b", "c", "d"][value];
            match kind {
                0 => write(start, start + length, text, revision + 2),
                1 => maybe(start, start + length, text),
                _ if value == 3 => read(start, start + length, None, 0, 9),
                _ => read(start, start + length, Some(text), revision + 2, 9),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn agrees_with_brute_force(operations in proptest::collection::vec(any_operation(), 1..7)) {
            let refs: Vec<&Operation> = operations.iter().collect();
            prop_assert_eq!(check_key("k", refs).is_ok(), brute_force(&operations));
        }
    }
}
