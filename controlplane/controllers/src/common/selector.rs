use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use keelstone_machinery::selector::LabelSelector;

/// A workload's selector. One that cannot be read selects nothing: a controller must not act on a guess.
pub fn of(selector: &ApiSelector) -> LabelSelector {
    let value = serde_json::to_value(selector).unwrap_or_default();
    let selector = LabelSelector::from_value(&value).unwrap_or_else(|_| LabelSelector::nothing());
    // The API refuses empty workload selectors; selecting everything would be harmful.
    if selector.is_everything() {
        LabelSelector::nothing()
    } else {
        selector
    }
}

/// Whether a selector matches an object's labels.
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    selector.matches_by(|key| labels?.get(key).map(String::as_str))
}
