//! Columns and cells that several kinds share, in kubectl's forms.

use keelstone_machinery::meta;
use keelstone_registry::Column;
use serde_json::Value;

use crate::json::{at, entries, items, text};

pub const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "The name of the object, unique within its namespace for namespaced kinds.",
    priority: 0,
};
pub const AGE: Column = column("Age", "string", "The time since the object was created.");
pub const CREATED_AT: Column = column("Created At", "date", "The time at which the object was created.");
pub const CONTAINERS: Column = wide("Containers", "string", "Names of each container in the template.");
pub const IMAGES: Column = wide("Images", "string", "Images referenced by each container in the template.");

/// What is shown for a time or a value that is not known.
pub const UNKNOWN: &str = "<unknown>";
/// What is shown for an empty list or a value that is not set.
pub const NONE: &str = "<none>";

/// A column that is always shown.
pub const fn column(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { name, kind, format: "", description, priority: 0 }
}

/// A column that `-o wide` adds.
pub const fn wide(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { name, kind, format: "", description, priority: 1 }
}

/// The object's name as a cell.
pub fn name(object: &Value) -> Value {
    text(object, "metadata.name").into()
}

/// `value`, or `<none>` if it is empty.
pub fn or_none(value: &str) -> Value {
    if value.is_empty() { NONE } else { value }.into()
}

/// Seconds since 1970 of an RFC 3339 time, with or without a fraction.
pub fn unix_s(time: &str) -> Option<i64> {
    meta::parse_rfc3339(time).map(|(seconds, _)| seconds)
}

/// The time since `time` in kubectl's short form; `<unknown>` if there is no time.
pub fn since(time: &str, now_unix_s: i64) -> String {
    unix_s(time).map_or(UNKNOWN.to_owned(), |then| human_duration(now_unix_s.saturating_sub(then)))
}

/// The object's age as a cell.
pub fn age(object: &Value, now_unix_s: i64) -> Value {
    since(text(object, "metadata.creationTimestamp"), now_unix_s).into()
}

/// The creation time as a cell of a `date` column.
pub fn created_at(object: &Value) -> Value {
    text(object, "metadata.creationTimestamp").into()
}

/// A duration as kubectl shows it: two units at most, fewer as it grows (apimachinery `HumanDuration`).
pub fn human_duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two_units(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two_units(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        two_units(days, "d", hours % 24, "h")
    } else if years < 2 {
        format!("{days}d")
    } else if years < 8 {
        two_units(years, "y", days % 365, "d")
    } else {
        format!("{years}y")
    }
}

fn two_units(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// A map of labels as `a=b,c=d`; `<none>` if empty.
pub fn labels(object: &Value, path: &str) -> String {
    let pairs: Vec<String> =
        entries(object, path).map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    if pairs.is_empty() {
        NONE.into()
    } else {
        pairs.join(",")
    }
}

/// A label selector (matchLabels and matchExpressions) in its string form, requirements ordered by key;
/// empty for the selector of everything.
pub fn selector(selector: &Value) -> String {
    let mut requirements: Vec<(&str, String)> = entries(selector, "matchLabels")
        .map(|(key, value)| (key.as_str(), format!("{key}={}", value.as_str().unwrap_or(""))))
        .collect();
    for expression in items(selector, "matchExpressions") {
        let key = text(expression, "key");
        let mut values: Vec<&str> = items(expression, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        requirements.push((
            key,
            match text(expression, "operator") {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "DoesNotExist" => format!("!{key}"),
                _ => key.to_owned(),
            },
        ));
    }
    requirements.sort_by(|a, b| a.0.cmp(b.0));
    requirements.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The names and the images of the containers at `path`, each joined with commas.
pub fn containers(object: &Value, path: &str) -> (String, String) {
    let join = |key| items(object, path).iter().map(|c| text(c, key)).collect::<Vec<_>>().join(",");
    (join("name"), join("image"))
}

/// Joins the first three of `list`, and says how many more there are.
pub fn at_most_three(list: &[String]) -> String {
    const SHOWN_MAX: usize = 3;
    let shown = list.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(",");
    match list.len().checked_sub(SHOWN_MAX) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

/// An address and port, with brackets around an IPv6 address.
pub fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// The condition of this type, `Null` if there is none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    items(object, "status.conditions").iter().find(|c| text(c, "type") == kind).unwrap_or(&NULL)
}

/// The integer at `path` as a cell; 0 if absent.
pub fn count(object: &Value, path: &str) -> Value {
    at(object, path).as_i64().unwrap_or(0).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations() {
        let (m, h, d) = (60, 3600, 86_400);
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (10 * m, "10m"),
            (179 * m + 59, "179m"),
            (3 * h, "3h"),
            (3 * h + 5 * m, "3h5m"),
            (8 * h + 5 * m, "8h"),
            (47 * h, "47h"),
            (48 * h, "2d"),
            (49 * h, "2d1h"),
            (8 * d + h, "8d"),
            (729 * d, "729d"),
            (730 * d, "2y"),
            (731 * d, "2y1d"),
            (3000 * d, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn times_with_fraction_and_offset() {
        assert_eq!(unix_s("1970-01-01T00:01:00Z"), Some(60));
        assert_eq!(unix_s("1970-01-01T00:01:00.123456Z"), Some(60));
        assert_eq!(unix_s("1970-01-01T01:01:00+01:00"), Some(60));
        assert_eq!(since("", 5), "<unknown>");
    }

    #[test]
    fn selectors_as_text() {
        let value = json!({
            "matchLabels": {"b": "1", "a": "2"},
            "matchExpressions": [
                {"key": "aa", "operator": "In", "values": ["y", "x"]},
                {"key": "z", "operator": "DoesNotExist"},
                {"key": "c", "operator": "Exists"},
            ],
        });
        assert_eq!(selector(&value), "a=2,aa in (x,y),b=1,c,!z");
        assert_eq!(selector(&Value::Null), "");
    }

    #[test]
    fn long_lists_are_cut() {
        let list: Vec<String> = (0..5).map(|i| i.to_string()).collect();
        assert_eq!(at_most_three(&list), "0,1,2 + 2 more...");
        assert_eq!(at_most_three(&list[..3]), "0,1,2");
        assert_eq!(at_most_three(&[]), "");
    }
}
