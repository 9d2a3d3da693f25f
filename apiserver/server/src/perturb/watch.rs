use std::sync::Arc;

use futures::StreamExt;
use keelstone_storage::{WatchEvent, WatchEvents};
use tokio::time::{sleep, sleep_until};

use super::{Knowledge, Perturbed, View};
use crate::constants::HELD_EVENTS_MAX;

impl Perturbed {
    /// A watch as the client gets it: late, slow or cut, with a note of what it was sent. `after`: where the
    /// watch begins; `None`: with a state.
    pub fn watched(&self, events: WatchEvents, user: &str, view: View, after: Option<i64>) -> WatchEvents {
        let events = self.late(events);
        let events = self.cut(events, user, &view);
        let (perturber, user) = (self.perturber.clone(), user.to_owned());
        if let Some(revision) = after {
            perturber.learn(&user, |knowledge| knowledge.set(&view, revision, true));
        }
        let mut has_state = after.is_some();
        Box::pin(events.inspect(move |event| {
            perturber.learn(&user, |knowledge| note(knowledge, &view, event, &mut has_state));
            perturber.passed(revision(event).unwrap_or(0));
        }))
    }

    fn late(&self, events: WatchEvents) -> WatchEvents {
        let (hold, pause) = (self.trouble.hold, self.trouble.pause);
        let env = self.perturber.env.clone();
        let events: WatchEvents = if hold.is_zero() {
            events
        } else {
            // Each event has its own clock from its arrival, so that many of them are not later than one.
            let held = events.map(move |event| {
                let due = env.now() + hold;
                async move {
                    sleep_until(due).await;
                    event
                }
            });
            Box::pin(held.buffered(HELD_EVENTS_MAX))
        };
        if pause.is_zero() {
            return events;
        }
        Box::pin(events.then(move |event| async move {
            sleep(pause).await;
            event
        }))
    }

    fn cut(&self, events: WatchEvents, user: &str, view: &View) -> WatchEvents {
        let Some(after) = self.trouble.drop_after else { return events };
        let (perturber, user, resource) = (Arc::clone(&self.perturber), user.to_owned(), view.resource.clone());
        Box::pin(events.take_until(Box::pin(async move {
            sleep(after).await;
            perturber.cut(&user, &resource);
        })))
    }
}

fn revision(event: &WatchEvent) -> Option<i64> {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
            Some(object.revision())
        }
        WatchEvent::Bookmark { revision, .. } => Some(*revision),
        WatchEvent::Error(_) => None,
    }
}

/// The state that a watch may begin with comes in the order of keys: until something follows that can only come
/// after all of it, its objects count one by one.
fn note(knowledge: &mut Knowledge, view: &View, event: &WatchEvent, has_state: &mut bool) {
    let Some(revision) = revision(event) else { return };
    if *has_state {
        knowledge.advance(view, revision);
    } else if let WatchEvent::Added(object) = event {
        knowledge.saw(&view.resource, object.key(), revision);
    } else {
        knowledge.set(view, revision, true);
        *has_state = true;
    }
}
