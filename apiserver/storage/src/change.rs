use std::sync::OnceLock;

use crate::{Predicate, StoredObject, WatchEvent};

/// One change of one object, from which each watcher makes the event that it may see.
#[derive(Debug)]
pub struct Change {
    revision: i64,
    new: Option<StoredObject>,
    old: Option<StoredObject>,
    /// `old` at `revision`: made at most once for all watchers that lose sight of the object.
    gone: OnceLock<StoredObject>,
}

impl Change {
    /// At least one of `new` and `old` must be given.
    pub fn new(revision: i64, new: Option<StoredObject>, old: Option<StoredObject>) -> Self {
        Self { revision, new, old, gone: OnceLock::new() }
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn key(&self) -> &str {
        self.new.as_ref().or(self.old.as_ref()).map_or("", StoredObject::key)
    }

    pub fn new_object(&self) -> Option<&StoredObject> {
        self.new.as_ref()
    }

    /// What a watcher of `prefix` with `predicate` sees: an object that enters its selector is ADDED, one that
    /// leaves it is DELETED.
    pub fn seen_by(&self, prefix: &str, predicate: &Predicate) -> Option<WatchEvent> {
        let key = self.key();
        if !key.starts_with(prefix) || predicate.key().is_some_and(|only| only != key) {
            return None;
        }
        let new = self.new.as_ref().filter(|o| predicate.matches(o.value()));
        let old = self.old.as_ref().filter(|o| predicate.matches(o.value()));
        match (new, old) {
            (Some(new), None) => Some(WatchEvent::Added(new.clone())),
            (Some(new), Some(_)) => Some(WatchEvent::Modified(new.clone())),
            (None, Some(old)) => {
                Some(WatchEvent::Deleted(self.gone.get_or_init(|| old.at_revision(self.revision)).clone()))
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(revision: i64, label: &str) -> StoredObject {
        StoredObject::new("ns/a", revision, json!({"metadata": {"name": "a", "labels": {"l": label}}}))
    }

    #[test]
    fn a_selector_turns_changes_into_arrivals_and_departures() {
        let wanted = Predicate::new(|o| o["metadata"]["labels"]["l"] == "yes");
        let see = |new: Option<&str>, old: Option<&str>| {
            Change::new(9, new.map(|l| object(9, l)), old.map(|l| object(5, l))).seen_by("ns/", &wanted)
        };
        assert!(matches!(see(Some("yes"), None), Some(WatchEvent::Added(_))));
        assert!(matches!(see(Some("yes"), Some("no")), Some(WatchEvent::Added(_))));
        assert!(matches!(see(Some("yes"), Some("yes")), Some(WatchEvent::Modified(_))));
        assert!(see(Some("no"), Some("no")).is_none());
        assert!(see(None, Some("no")).is_none());
        for departure in [see(Some("no"), Some("yes")), see(None, Some("yes"))] {
            let Some(WatchEvent::Deleted(gone)) = departure else { panic!("not deleted") };
            assert_eq!(gone.value()["metadata"]["labels"]["l"], "yes");
            assert_eq!(gone.value()["metadata"]["resourceVersion"], "9");
        }
        assert!(Change::new(9, Some(object(9, "yes")), None).seen_by("other/", &wanted).is_none());
        let only = wanted.clone().only_key("ns/b".into());
        assert!(Change::new(9, Some(object(9, "yes")), None).seen_by("ns/", &only).is_none());
    }
}
