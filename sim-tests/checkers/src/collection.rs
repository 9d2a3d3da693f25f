//! (16) The garbage collector never removes an object one of whose owners lives. For objects that nobody else removes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    objects::{text, Change},
    Violation,
};

/// `of_interest` tells the dependents that only the collector removes, by `namespace/name`.
///
/// # Errors
/// A dependent that was removed, or marked, while an owner lived.
pub fn check(changes: &[Change], of_interest: impl Fn(&str) -> bool) -> Result<(), Violation> {
    // Uids of all objects that are there and not on their way out.
    let mut living: BTreeSet<String> = BTreeSet::new();
    let mut by_name: BTreeMap<(&str, &str), String> = BTreeMap::new();
    let mut owners: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for change in changes {
        let key = (change.resource.as_str(), change.name.as_str());
        let ending = match &change.object {
            Some(object) => {
                let uid = text(&object["metadata"]["uid"]).to_owned();
                let ending = !object["metadata"]["deletionTimestamp"].is_null();
                if ending {
                    living.remove(&uid);
                } else {
                    living.insert(uid.clone());
                }
                by_name.insert(key, uid);
                if of_interest(&change.name) && !ending {
                    let references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
                    owners.insert(&change.name, references.map(|o| text(&o["uid"]).to_owned()).collect());
                }
                ending
            }
            None => {
                if let Some(uid) = by_name.remove(&key) {
                    living.remove(&uid);
                }
                true
            }
        };
        if !ending || !of_interest(&change.name) {
            continue;
        }
        if let Some(owner) = owners.get(change.name.as_str()).into_iter().flatten().find(|uid| living.contains(*uid)) {
            let story =
                format!("at revision {} {} is removed, but its owner {owner} lives", change.revision, change.name);
            return Err(Violation::new("no wrongful collection (16)", story));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::tests::{gone, set};

    #[test]
    fn a_dependent_of_a_living_owner_stays() {
        let owner = set(1, "configmaps", "owner", json!({"metadata": {"uid": "o"}}));
        let references = json!([{"uid": "o"}]);
        let dependent = set(2, "configmaps", "d-1", json!({"metadata": {"uid": "d", "ownerReferences": references}}));
        let of_interest = |name: &str| name.starts_with("default/d-");
        let right = [owner.clone(), dependent.clone(), gone(3, "configmaps", "owner"), gone(4, "configmaps", "d-1")];
        assert_eq!(check(&right, of_interest), Ok(()));
        let wrong = [owner, dependent, gone(3, "configmaps", "d-1"), gone(4, "configmaps", "owner")];
        assert!(check(&wrong, of_interest).is_err());
        assert_eq!(check(&wrong, |_| false), Ok(()));
    }
}
