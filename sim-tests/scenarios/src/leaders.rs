use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use keelstone_checkers::leadership::Acting;
use tracing::{field::Visit, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Where the leader elector's events come from.
pub const TARGET: &str = "keelstone_client::leader";

/// Reads from the leader elector's own events who acts under which lease, and when.
#[derive(Clone, Default)]
pub struct Leaders(Arc<Mutex<Vec<Change>>>);

#[derive(Clone, Debug)]
struct Change {
    at: Duration,
    lease: String,
    /// The candidate's identity and the epoch of its term: each term counts as a holder of its own.
    holder: String,
    begins: bool,
}

impl Leaders {
    /// The times of acting, one for each term, up to `end`. A host's crash (time, name) ends what its candidates did:
    /// their identities begin with its name.
    pub fn acting(&self, crashes: &[(Duration, String)], end: Duration) -> Vec<Acting> {
        let mut open: BTreeMap<(String, String), Duration> = BTreeMap::new();
        let mut acting = Vec::new();
        let mut close = |key: (String, String), from: Duration, to: Duration| {
            let (start_us, end_us) = (from.as_micros() as u64, to.as_micros() as u64);
            acting.push(Acting { lease: key.0, holder: key.1, start_us, end_us });
        };
        let mut crashes = crashes.iter().peekable();
        for change in self.0.lock().expect("no panic while locked").iter() {
            while let Some((at, host)) = crashes.next_if(|(at, _)| *at <= change.at) {
                let gone: Vec<_> = open.keys().filter(|key| of_host(&key.1, host)).cloned().collect();
                for key in gone {
                    let from = open.remove(&key).unwrap_or(*at);
                    close(key, from, *at);
                }
            }
            let key = (change.lease.clone(), change.holder.clone());
            if change.begins {
                open.insert(key, change.at);
            } else if let Some(from) = open.remove(&key) {
                close(key, from, change.at);
            }
        }
        for (key, from) in open {
            let crash = crashes.clone().find(|(_, host)| of_host(&key.1, host)).map_or(end, |(at, _)| *at);
            close(key, from, crash);
        }
        acting
    }
}

fn of_host(holder: &str, host: &str) -> bool {
    holder.strip_prefix(host).is_some_and(|rest| rest.starts_with('_'))
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for Leaders {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.event(event);
    }
}

impl Leaders {
    /// Takes note of an event of [`TARGET`].
    pub fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let begins = match fields.0.get("message").map(String::as_str) {
            Some("leading") => true,
            Some("leadership lost" | "leadership given up") => false,
            _ => return,
        };
        let mut field = |name| fields.0.remove(name).unwrap_or_default();
        let (lease, holder) = (field("lease"), format!("{} in epoch {}", field("identity"), field("epoch")));
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.0.lock().expect("no panic while locked").push(Change { at, lease, holder, begins });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acting_ends_with_the_loss_the_crash_or_the_run() {
        let ms = Duration::from_millis;
        let change = |at, holder: &str, begins| Change { at: ms(at), lease: "l".into(), holder: holder.into(), begins };
        let leaders = Leaders::default();
        let changes =
            [change(1, "m1_a", true), change(5, "m1_a", false), change(7, "m2_b", true), change(20, "m1_c", true)];
        leaders.0.lock().unwrap().extend(changes);
        let acting = leaders.acting(&[(ms(3), "m2".into()), (ms(9), "m2".into())], ms(30));
        let times: Vec<(u64, u64)> = acting.iter().map(|a| (a.start_us / 1000, a.end_us / 1000)).collect();
        assert_eq!(times, [(1, 5), (7, 9), (20, 30)]);
    }
}
