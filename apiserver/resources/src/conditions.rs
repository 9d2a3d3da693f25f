//! Writing `status.conditions`.

use serde_json::Value;

use crate::json::{child, copy, items, set, text};

/// Puts a condition into the object's status, in place of the one of its type. If the condition's status is as
/// before, so is its lastTransitionTime.
pub fn put(object: &mut Value, mut condition: Value) {
    let Some(status) = child(object, "status") else { return };
    let mut list = items(status, "conditions").to_vec();
    match list.iter_mut().find(|c| text(c, "type") == text(&condition, "type")) {
        Some(old) => {
            if text(old, "status") == text(&condition, "status") {
                copy(&mut condition, old, "lastTransitionTime");
            }
            *old = condition;
        }
        None => list.push(condition),
    }
    set(status, "conditions", list);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_time_is_that_of_the_last_change() {
        let mut object = json!({});
        let condition = |status: &str, time: &str| json!({"type": "A", "status": status, "lastTransitionTime": time});
        put(&mut object, condition("True", "1"));
        put(&mut object, condition("True", "2"));
        assert_eq!(object["status"]["conditions"], json!([condition("True", "1")]));
        put(&mut object, condition("False", "3"));
        assert_eq!(object["status"]["conditions"], json!([condition("False", "3")]));
    }
}
