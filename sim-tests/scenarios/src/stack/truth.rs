//! The truth about the users' ConfigMaps: the store's log.

use keelstone_checkers::{objects, Event};

use super::configs::NAME_PREFIX;

/// The log of the users' ConfigMaps, as a user sees it.
pub fn configs(log: &[Event]) -> Vec<Event> {
    let of_users = |change: objects::Change| {
        let key = change.name.strip_prefix("default/").filter(|name| name.starts_with(NAME_PREFIX))?.to_owned();
        if change.resource != "configmaps" {
            return None;
        }
        let value = change.object.map(|object| objects::text(&object["data"]["v"]).to_owned());
        Some(Event { revision: change.revision, key, value })
    };
    objects::changes(log).into_iter().filter_map(of_users).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_maps_are_seen_as_their_users_see_them() {
        let event = |revision, key: &str, object: Option<&str>| Event {
            revision,
            key: format!("/registry/core/configmaps/default/{key}"),
            value: object.map(|object| format!("kso\u{1}{object}")),
        };
        let log =
            [event(3, "c-1", Some(r#"{"data": {"v": "x"}}"#)), event(4, "other", Some("{}")), event(5, "c-1", None)];
        let expected = [
            Event { revision: 3, key: "c-1".into(), value: Some("x".into()) },
            Event { revision: 5, key: "c-1".into(), value: None },
        ];
        assert_eq!(configs(&log), expected);
    }
}
