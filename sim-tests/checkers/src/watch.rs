//! (5) A watch is ordered, unique, reliable, atomic and resumable: from its start to the last revision it
//! told, it has each change of the log once, in order, no revision split between two answers.

use crate::{Event, Violation};

const INVARIANT: &str = "watch (5)";

/// What one watcher saw: the answers in order, each with its events.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub watcher: String,
    /// Changes at this revision and later were asked for.
    pub start_revision: i64,
    pub answers: Vec<Vec<Event>>,
    /// The highest revision up to which the watch said to be complete (events or progress).
    pub complete_to: i64,
    /// Each progress notification: how many answers had come before it, and the revision that it named.
    pub progress: Vec<(usize, i64)>,
    /// Keys that start with this are watched.
    pub prefix: String,
}

/// # Errors
/// The first difference between what the watcher saw and `log`, the changes in the order of revisions.
pub fn check(observed: &Observed, log: &[Event]) -> Result<(), Violation> {
    let fail = |story: String| Err(Violation::new(INVARIANT, format!("watcher {}: {story}", observed.watcher)));
    let mut last = 0;
    for answer in &observed.answers {
        if let Some(first) = answer.first().filter(|e| e.revision <= last) {
            return fail(format!("an answer begins with {first:?}, but revision {last} was told in an earlier one"));
        }
        last = answer.last().map_or(last, |e| e.revision);
    }
    for (before, told) in &observed.progress {
        let next = observed.answers.get(*before).and_then(|answer| answer.first());
        if let Some(late) = next.filter(|event| event.revision <= *told) {
            return fail(format!("was told to be complete up to {told}, then came {late:?}"));
        }
    }
    let seen: Vec<&Event> = observed.answers.iter().flatten().collect();
    if let Some(pair) = seen.windows(2).find(|p| p[0].revision > p[1].revision) {
        return fail(format!("out of order: {:?} before {:?}", pair[0], pair[1]));
    }
    let to = observed.complete_to.max(last);
    let expected: Vec<&Event> = log
        .iter()
        .filter(|e| e.revision >= observed.start_revision && e.revision <= to && e.key.starts_with(&observed.prefix))
        .collect();
    for i in 0..seen.len().max(expected.len()) {
        match (seen.get(i), expected.get(i)) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => return fail(format!("saw {a:?} where the log has {b:?} (complete to revision {to})")),
        }
    }
    Ok(())
}

/// A watch that still wanted changes from `wanted` on was ended because of the compaction at `compacted`.
///
/// # Errors
/// If nothing that it wanted is gone.
pub fn check_end(watcher: &str, wanted: i64, compacted: i64) -> Result<(), Violation> {
    if wanted <= compacted {
        return Ok(());
    }
    let story =
        format!("watcher {watcher}: wanted what came from {wanted} on, and was told that {compacted} is compacted");
    Err(Violation::new(INVARIANT, story))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: i64, key: &str) -> Event {
        Event { revision, key: key.into(), value: Some(format!("v{revision}")) }
    }

    fn observed(answers: &[&[(i64, &str)]], complete_to: i64) -> Observed {
        let answers = answers.iter().map(|a| a.iter().map(|&(r, k)| event(r, k)).collect()).collect();
        Observed { watcher: "w".into(), start_revision: 2, answers, complete_to, ..Observed::default() }
    }

    fn log() -> Vec<Event> {
        vec![event(2, "a"), event(3, "a"), event(3, "b"), event(4, "a")]
    }

    #[test]
    fn accepts_a_complete_watch() {
        assert!(check(&observed(&[&[(2, "a")], &[(3, "a"), (3, "b")], &[(4, "a")]], 4), &log()).is_ok());
        // It may lag behind.
        assert!(check(&observed(&[&[(2, "a")]], 2), &log()).is_ok());
    }

    #[test]
    fn a_watch_is_ended_only_if_something_is_gone() {
        // With the values before, the change at the compacted revision itself cannot be told.
        assert!(check_end("w", 4, 4).is_ok());
        assert!(check_end("w", 5, 4).is_err());
    }

    #[test]
    fn rejects_a_skipped_event() {
        assert!(check(&observed(&[&[(2, "a")], &[(4, "a")]], 4), &log()).is_err());
    }

    #[test]
    fn rejects_progress_ahead_of_the_events() {
        assert!(check(&observed(&[&[(2, "a")]], 4), &log()).is_err());
    }

    #[test]
    fn rejects_progress_that_overtakes_an_event() {
        let mut late = observed(&[&[(2, "a")], &[(3, "a"), (3, "b")], &[(4, "a")]], 4);
        late.progress = vec![(0, 1), (2, 3), (3, 4)];
        assert_eq!(check(&late, &log()), Ok(()));
        late.progress.push((1, 3));
        assert!(check(&late, &log()).is_err());
    }

    #[test]
    fn rejects_a_split_revision_a_repetition_and_a_journey_back() {
        assert!(check(&observed(&[&[(2, "a"), (3, "a")], &[(3, "b"), (4, "a")]], 4), &log()).is_err());
        assert!(check(&observed(&[&[(2, "a")], &[(2, "a"), (3, "a"), (3, "b")]], 3), &log()).is_err());
        assert!(check(&observed(&[&[(3, "a"), (3, "b"), (2, "a")]], 3), &log()).is_err());
    }
}
