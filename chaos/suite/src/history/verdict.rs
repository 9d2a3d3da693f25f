//! Judges what clients and watchers recorded.

use std::collections::BTreeMap;

use http::Method;
use keelstone_chaos_cluster::revision;
use keelstone_checkers::{durability, linearizability, Event, History, Violation};
use serde_json::json;

use super::mirror::Seen;
use crate::{
    constants::REQUEST_MAX,
    failure::{Failure, Outcome},
    http_client::{Connection, Endpoint},
};

/// Fewer known outcomes than this say nothing.
const KNOWN_MIN: usize = 200;
/// kube-root-ca.crt comes from the control plane, this one from [`settle`]: not of the recorded clients.
const MARKER: &str = "zz-end";

/// Writes a last object; returns its revision, which every watcher must reach.
pub async fn settle(endpoint: &Endpoint, namespace: &str) -> Outcome<i64> {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": MARKER}});
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let sent = Connection::new(endpoint).send(Method::POST, &path, Some(&body), REQUEST_MAX).await;
    let object = sent.success().map_err(|e| Failure::broken(format!("the last write: {e}")))?;
    Ok(revision(&object))
}

/// The log of changes, put together from all watchers, who must agree.
fn merged(observed: &[Seen]) -> Result<Vec<Event>, Violation> {
    let mut log: BTreeMap<(i64, &str), &Event> = BTreeMap::new();
    for seen in observed {
        for event in &seen.events {
            let other = log.insert((event.revision, &event.key), event);
            if let Some(other) = other.filter(|o| *o != event) {
                return Err(Violation::new("watch (5)", format!("{}: {event:?}, another: {other:?}", seen.name)));
            }
        }
    }
    Ok(log.into_values().cloned().collect())
}

/// Each watcher saw every change of the log after its (last) list, and its state is the final list.
fn mirrors_hold(observed: &[Seen], log: &[Event], last: &BTreeMap<String, (String, i64)>) -> Result<(), Violation> {
    for seen in observed {
        let fail = |story: String| Err(Violation::new("list + watch = state (9)", format!("{}: {story}", seen.name)));
        if let Some(complaint) = &seen.complaint {
            return fail(complaint.clone());
        }
        if seen.state != *last {
            return fail(format!("its state {:?} is not the final list {last:?}", seen.state));
        }
        let from = seen.lists.last().copied().unwrap_or(0);
        let own: Vec<&Event> = seen.events.iter().filter(|e| e.revision > from).collect();
        let wanted: Vec<&Event> = log.iter().filter(|e| e.revision > from).collect();
        if own != wanted {
            return fail(format!("it saw {} events since its list at {from}, the log has {}", own.len(), wanted.len()));
        }
    }
    Ok(())
}

/// All checks, and a summary. An inconclusive history is [`Failure::Impossible`].
pub async fn judge(history: &History, observed: &[Seen], masters: &[Endpoint], namespace: &str) -> Outcome<()> {
    let (known, failed, unknown) = history.counts();
    println!(
        "\n== Verdict\n  {} calls: {known} known, {failed} failed, {unknown} of unknown outcome",
        history.operations.len()
    );
    let violated = |v: Violation| Failure::broken(format!("VIOLATED {v}"));
    let mut last = BTreeMap::new();
    for endpoint in masters {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        let list = Connection::new(endpoint).get(&path, REQUEST_MAX).await.success();
        let list = list.map_err(|e| Failure::broken(format!("{}: the final list: {e}", endpoint.address)))?;
        let items = list["items"].as_array().into_iter().flatten();
        let state: BTreeMap<String, (String, i64)> = items
            .map(|i| {
                let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
                (text(&i["metadata"]["name"]), (text(&i["data"]["value"]), revision(i)))
            })
            .collect();
        if !last.is_empty() && last != state {
            return Err(Failure::broken(format!("VIOLATED: masters differ at the end: {last:?} and {state:?}")));
        }
        last = state;
    }
    let log = merged(observed).map_err(violated)?;
    mirrors_hold(observed, &log, &last).map_err(violated)?;
    println!(
        "  held: {} watchers saw the same {} changes, each its state equal to the final list",
        observed.len(),
        log.len()
    );
    durability::check(history, &log).map_err(|v| {
        // Then changes may be missing in the log that was put together, not in the store.
        if observed.iter().all(|s| s.lists.len() > 1) {
            return Failure::impossible(format!("inconclusive, every watcher had to list again: {v}"));
        }
        violated(v)
    })?;
    println!("  held: every acknowledged write is in the log at its revision (durability)");
    linearizability::check(history).map_err(violated)?;
    println!("  held: one order of all calls agrees with real time (linearizability)");
    if known < KNOWN_MIN {
        return Err(Failure::impossible(format!("inconclusive: only {known} calls have a known outcome")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keelstone_checkers::{Call, Operation, Outcome as CallOutcome};

    use super::*;

    fn event(revision: i64, value: &str) -> Event {
        Event { revision, key: "r0".into(), value: Some(value.into()) }
    }

    fn seen(name: &str, events: &[Event]) -> Seen {
        let last = events.last().map(|e| (e.key.clone(), (e.value.clone().unwrap_or_default(), e.revision)));
        Seen {
            name: name.into(),
            state: last.into_iter().collect(),
            events: events.to_vec(),
            lists: vec![1],
            revision: 9,
            complaint: None,
        }
    }

    #[test]
    fn a_skipped_event_and_a_watcher_who_saw_something_else_are_caught() {
        let (all, skipped) = (seen("a", &[event(2, "x"), event(3, "y")]), seen("b", &[event(3, "y")]));
        let log = merged(&[all.clone(), skipped.clone()]).unwrap();
        let last = all.state.clone();
        assert!(mirrors_hold(std::slice::from_ref(&all), &log, &last).is_ok());
        assert!(mirrors_hold(&[all.clone(), skipped], &log, &last).unwrap_err().story.contains("1 events"));
        assert!(merged(&[all, seen("c", &[event(3, "z")])]).is_err());
    }

    #[test]
    fn a_state_that_is_not_the_final_list_is_caught() {
        let own = seen("a", &[event(2, "x")]);
        let log = merged(std::slice::from_ref(&own)).unwrap();
        let last = BTreeMap::from([("r0".to_owned(), ("y".to_owned(), 3))]);
        assert!(mirrors_hold(&[own], &log, &last).is_err());
    }

    #[test]
    fn an_acknowledged_write_that_no_watcher_saw_is_caught() {
        let log = merged(&[seen("a", &[event(2, "x")])]).unwrap();
        let call = Call::CompareAndSet { key: "r0".into(), expected: 2, value: "y".into() };
        let outcome = CallOutcome::Written { revision: 3 };
        let lost = Operation { client: 0, start_us: 0, end_us: 1, call, outcome };
        assert!(durability::check(&History { operations: vec![lost] }, &log).is_err());
    }
}
