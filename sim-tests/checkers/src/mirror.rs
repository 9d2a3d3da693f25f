//! (9) list + watch = state: a copy that was listed at a revision and then told every change is the state, at each of its
//! moments, and was told each change once, in order, as what it was.

use std::{collections::BTreeMap, iter::Peekable};

use serde::{Deserialize, Serialize};

use crate::{Event, Violation};

const INVARIANT: &str = "list + watch = state (9)";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    Added,
    Modified,
    Deleted,
    Bookmark,
}

/// A watch event: what became of which key (none for a bookmark), at which revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub kind: Kind,
    pub key: String,
    pub revision: i64,
}

/// What a copy was made of: a list, and the events of the watches that went on from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    pub name: String,
    /// Keys that start with this are copied.
    pub prefix: String,
    pub listed_at: i64,
    /// By key: the revision of its last change.
    pub list: BTreeMap<String, i64>,
    pub events: Vec<Seen>,
}

/// # Errors
/// The first difference between the copy and `log`, all changes in the order of revisions.
pub fn check(mirror: &Mirror, log: &[Event]) -> Result<(), Violation> {
    let fail = |story: String| Err(Violation::new(INVARIANT, format!("{}: {story}", mirror.name)));
    let own: Vec<&Event> = log.iter().filter(|e| e.key.starts_with(&mirror.prefix)).collect();
    let mut state: BTreeMap<&str, i64> = BTreeMap::new();
    let mut changes = own.iter().copied().peekable();
    apply(&mut changes, &mut state, mirror.listed_at);
    let listed: BTreeMap<&str, i64> = mirror.list.iter().map(|(k, r)| (k.as_str(), *r)).collect();
    if listed != state {
        let wrong = listed.iter().find(|(k, r)| state.get(*k) != Some(r));
        let missing = state.iter().find(|(k, _)| !listed.contains_key(*k));
        return fail(format!("the list at {} shows {wrong:?} and lacks {missing:?}", mirror.listed_at));
    }
    let mut last = mirror.listed_at;
    for seen in &mirror.events {
        if seen.revision < last || (seen.revision == last && seen.kind != Kind::Bookmark) {
            return fail(format!("{seen:?} came after revision {last}"));
        }
        let due = apply(&mut changes, &mut state, seen.revision);
        let own = (seen.kind != Kind::Bookmark).then_some(seen);
        if due.iter().collect::<Vec<_>>() != own.into_iter().collect::<Vec<_>>() {
            return fail(format!("after revision {last} it was told {seen:?}, and the log has {due:?} up to there"));
        }
        last = seen.revision;
    }
    Ok(())
}

/// Takes the changes up to `to` into the state; what a watcher is told of them.
fn apply<'a>(
    changes: &mut Peekable<impl Iterator<Item = &'a Event>>,
    state: &mut BTreeMap<&'a str, i64>,
    to: i64,
) -> Vec<Seen> {
    let mut told = Vec::new();
    while let Some(change) = changes.next_if(|c| c.revision <= to) {
        let known = match change.value {
            Some(_) => state.insert(&change.key, change.revision).is_some(),
            None => state.remove(change.key.as_str()).is_some(),
        };
        let kind = match (&change.value, known) {
            (Some(_), false) => Kind::Added,
            (Some(_), true) => Kind::Modified,
            (None, _) => Kind::Deleted,
        };
        told.push(Seen { kind, key: change.key.clone(), revision: change.revision });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, key: &str, there: bool) -> Event {
        Event { revision, key: key.into(), value: there.then(|| "v".to_owned()) }
    }

    fn seen(kind: Kind, key: &str, revision: i64) -> Seen {
        Seen { kind, key: key.into(), revision }
    }

    fn log() -> Vec<Event> {
        vec![
            change(2, "p/a", true),
            change(3, "q/x", true),
            change(4, "p/b", true),
            change(6, "p/a", true),
            change(7, "p/b", false),
        ]
    }

    fn mirror() -> Mirror {
        let events = vec![
            seen(Kind::Added, "p/b", 4),
            seen(Kind::Bookmark, "", 5),
            seen(Kind::Modified, "p/a", 6),
            seen(Kind::Deleted, "p/b", 7),
        ];
        let list = BTreeMap::from([("p/a".to_owned(), 2)]);
        Mirror { name: "m".into(), prefix: "p/".into(), listed_at: 3, list, events }
    }

    #[test]
    fn a_right_copy_is_accepted() {
        assert_eq!(check(&mirror(), &log()), Ok(()));
    }

    #[test]
    fn every_way_to_be_wrong_is_told() {
        let wrong = |change: fn(&mut Mirror)| {
            let mut mirror = mirror();
            change(&mut mirror);
            check(&mirror, &log()).unwrap_err().story
        };
        assert!(wrong(|m| m.list.clear()).contains("lacks Some((\"p/a\", 2))"));
        assert!(wrong(|m| m.list.extend([("p/b".to_owned(), 4)])).contains("shows Some((\"p/b\", 4))"));
        assert!(wrong(|m| drop(m.events.remove(2))).contains("the log has"), "skipped");
        assert!(wrong(|m| m.events.insert(1, m.events[0].clone())).contains("came after"), "repeated");
        assert!(wrong(|m| m.events.swap(0, 2)).contains("the log has"), "out of order");
        assert!(wrong(|m| m.events[0].kind = Kind::Modified).contains("the log has"), "of another kind");
        assert!(wrong(|m| m.events[1].revision = 6).contains("the log has"), "a bookmark past what was told");
        assert!(wrong(|m| m.events.push(seen(Kind::Added, "p/z", 9))).contains("the log has"), "of nothing");
    }
}
