use std::collections::BTreeMap;

use keelstone_registry::ListParams;
use serde::Serialize;

use crate::constants::{KNOWN_OBJECTS_MAX, VIEWS_PER_ACTOR_MAX};

/// What a client keeps up to date by list and watch: some of the objects of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct View {
    /// `pods`, `deployments.apps`.
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label_selector: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_selector: String,
}

impl View {
    pub fn new(resource: &str, namespace: &str, params: &ListParams) -> Self {
        Self {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            label_selector: params.label_selector.clone(),
            field_selector: params.field_selector.clone(),
        }
    }
}

/// What one client was sent.
///
/// Worked example: a list of pods at revision 10, a watch from there with events of 12 and 15, then a get of a
/// pod last written at 18. The view of pods is complete up to 15; of what came later only that pod is known.
/// A change of another pod at 17 is not known, and a write that the client makes now is made without it.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    views: BTreeMap<View, Frontier>,
    /// resource and key, and the newest revision in which the object was sent.
    objects: BTreeMap<(String, String), i64>,
}

#[derive(Clone, Copy, Debug)]
struct Frontier {
    revision: i64,
    /// It was watched, so its client means to keep it up to date. One list is only a question.
    watched: bool,
}

impl Knowledge {
    /// A whole list was sent, or a watch begins after `revision`: the client knows exactly that state, which
    /// may be older than one it knew before.
    pub fn set(&mut self, view: &View, revision: i64, watched: bool) {
        let known = self.views.get(view).is_some_and(|frontier| frontier.watched);
        self.views.insert(view.clone(), Frontier { revision, watched: watched || known });
        while self.views.len() > VIEWS_PER_ACTOR_MAX {
            let oldest = self.views.iter().min_by_key(|(_, frontier)| (frontier.watched, frontier.revision));
            let Some(oldest) = oldest.map(|(view, _)| view.clone()) else { return };
            self.views.remove(&oldest);
        }
    }

    /// A watch has delivered everything up to `revision`.
    pub fn advance(&mut self, view: &View, revision: i64) {
        if let Some(frontier) = self.views.get_mut(view) {
            frontier.revision = frontier.revision.max(revision);
        }
    }

    /// An object was sent: the answer of a get or of the client's own write.
    pub fn saw(&mut self, resource: &str, key: &str, revision: i64) {
        let known = self.objects.entry((resource.to_owned(), key.to_owned())).or_default();
        *known = (*known).max(revision);
        while self.objects.len() > KNOWN_OBJECTS_MAX {
            let oldest = self.objects.iter().min_by_key(|(_, revision)| **revision).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.objects.remove(&oldest);
        }
    }

    /// The views that are kept up to date, and how far they are.
    pub fn frontiers(&self) -> impl Iterator<Item = (&View, i64)> {
        let watched = self.views.iter().filter(|(_, frontier)| frontier.watched);
        watched.map(|(view, frontier)| (view, frontier.revision))
    }

    /// Whether the object was sent by itself in this state or a newer one.
    pub fn knows(&self, resource: &str, key: &str, revision: i64) -> bool {
        self.objects.get(&(resource.to_owned(), key.to_owned())).is_some_and(|known| *known >= revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(resource: &str) -> View {
        View::new(resource, "", &ListParams::default())
    }

    #[test]
    fn a_view_is_what_was_sent_and_goes_back_with_an_old_list() {
        let mut known = Knowledge::default();
        known.set(&view("pods"), 10, false);
        assert_eq!(known.frontiers().count(), 0, "a list alone is not a view");
        known.set(&view("pods"), 10, true);
        known.advance(&view("pods"), 15);
        known.advance(&view("pods"), 12);
        assert_eq!(known.frontiers().collect::<Vec<_>>(), [(&view("pods"), 15)]);
        known.saw("pods", "ns/a", 18);
        known.saw("pods", "ns/a", 17);
        assert!(known.knows("pods", "ns/a", 18) && !known.knows("pods", "ns/a", 19));
        assert!(!known.knows("pods", "ns/b", 1) && !known.knows("nodes", "ns/a", 18));
        known.set(&view("pods"), 11, false);
        assert_eq!(known.frontiers().collect::<Vec<_>>(), [(&view("pods"), 11)]);
    }

    #[test]
    fn the_oldest_are_forgotten_at_the_bounds() {
        let mut known = Knowledge::default();
        for i in 0..=VIEWS_PER_ACTOR_MAX {
            known.set(&view(&format!("r{i:04}")), i64::try_from(i).unwrap(), true);
        }
        assert_eq!(known.frontiers().count(), VIEWS_PER_ACTOR_MAX);
        assert!(known.frontiers().all(|(view, _)| view.resource != "r0000"));
        for i in 0..=KNOWN_OBJECTS_MAX {
            known.saw("pods", &i.to_string(), 1 + i64::try_from(i).unwrap());
        }
        assert!(!known.knows("pods", "0", 1) && known.knows("pods", "1", 2));
    }
}
