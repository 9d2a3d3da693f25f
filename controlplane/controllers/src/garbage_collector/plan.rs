use keelstone_client::{DynamicObject, Object, Propagation};
use keelstone_machinery::gvk;
use serde_json::Value;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// A reference to an owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// The owner must not vanish before this dependent, if it is deleted in the foreground.
    pub blocks: bool,
}

/// What a live read said about an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    Solid,
    /// No object with that uid is there.
    Gone,
    /// It is being deleted in the foreground, and waits for its dependents.
    Waiting,
}

/// What is to be done about an object that has owners and is not being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Keep,
    /// Take the references to these owners away; others keep the object.
    Disown(Vec<String>),
    /// `unblock`: first let it no longer block its owners, for they wait for each other in a circle.
    Delete {
        propagation: Propagation,
        unblock: bool,
    },
}

pub fn owners(object: &DynamicObject) -> Vec<Owner> {
    let references = object.0["metadata"]["ownerReferences"].as_array();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let owner = |reference: &Value| Owner {
        group: gvk::parse_api_version(reference["apiVersion"].as_str().unwrap_or_default()).0.to_owned(),
        kind: text(&reference["kind"]),
        name: text(&reference["name"]),
        uid: text(&reference["uid"]),
        blocks: reference["blockOwnerDeletion"] == Value::Bool(true),
    };
    references.into_iter().flatten().map(owner).collect()
}

pub fn has_finalizer(object: &DynamicObject, finalizer: &str) -> bool {
    object.0["metadata"]["finalizers"].as_array().into_iter().flatten().any(|f| f == finalizer)
}

/// It is being deleted in the foreground.
pub fn waits_for_dependents(object: &DynamicObject) -> bool {
    object.is_terminating() && has_finalizer(object, FOREGROUND)
}

/// Decides about an object from what live reads said of each of its owners. `has_dependents` and
/// `dependent_waits` (one of them is being deleted in the foreground) may come from caches: they only choose
/// the manner of deletion.
pub fn decide(
    object: &DynamicObject,
    owners: &[(Owner, OwnerState)],
    has_dependents: bool,
    dependent_waits: bool,
) -> Decision {
    if owners.is_empty() || object.is_terminating() {
        return Decision::Keep;
    }
    let of = |state: OwnerState| owners.iter().filter(move |(_, s)| *s == state).map(|(owner, _)| owner.uid.clone());
    let fading: Vec<String> = of(OwnerState::Gone).chain(of(OwnerState::Waiting)).collect();
    if fading.len() < owners.len() {
        return if fading.is_empty() { Decision::Keep } else { Decision::Disown(fading) };
    }
    if of(OwnerState::Waiting).next().is_some() && has_dependents {
        return Decision::Delete { propagation: Propagation::Foreground, unblock: dependent_waits };
    }
    let propagation = if has_finalizer(object, ORPHAN) {
        Propagation::Orphan
    } else if has_finalizer(object, FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    Decision::Delete { propagation, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(finalizers: &[&str]) -> DynamicObject {
        json!({"metadata": {"name": "o", "finalizers": finalizers}}).into()
    }

    fn owned(states: &[OwnerState]) -> Vec<(Owner, OwnerState)> {
        let owner = |uid: usize| Owner {
            group: String::new(),
            kind: "K".into(),
            name: format!("o{uid}"),
            uid: uid.to_string(),
            blocks: true,
        };
        states.iter().enumerate().map(|(i, state)| (owner(i), *state)).collect()
    }

    #[test]
    fn decisions() {
        use OwnerState::{Gone, Solid, Waiting};
        let delete = |propagation, unblock| Decision::Delete { propagation, unblock };
        let plain = object(&[]);
        assert_eq!(decide(&plain, &[], false, false), Decision::Keep);
        assert_eq!(decide(&plain, &owned(&[Solid]), false, false), Decision::Keep);
        assert_eq!(decide(&plain, &owned(&[Solid, Gone]), false, false), Decision::Disown(vec!["1".into()]));
        assert_eq!(decide(&plain, &owned(&[Waiting, Solid]), true, false), Decision::Disown(vec!["0".into()]));
        assert_eq!(decide(&plain, &owned(&[Gone]), true, false), delete(Propagation::Background, false));
        assert_eq!(decide(&plain, &owned(&[Waiting]), false, false), delete(Propagation::Background, false));
        assert_eq!(decide(&plain, &owned(&[Waiting]), true, true), delete(Propagation::Foreground, true));
        let orphaning = object(&[ORPHAN]);
        assert_eq!(decide(&orphaning, &owned(&[Gone]), false, false), delete(Propagation::Orphan, false));
        let mut leaving = object(&[]);
        leaving.0["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(decide(&leaving, &owned(&[Gone]), false, false), Decision::Keep);
    }

    #[test]
    fn references_are_read() {
        let object = DynamicObject(json!({"metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "blockOwnerDeletion": true},
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "v"}]}}));
        let all = owners(&object);
        assert_eq!((all[0].group.as_str(), all[0].blocks), ("apps", true));
        assert_eq!((all[1].group.as_str(), all[1].blocks), ("", false));
    }

    proptest! {
        /// Whatever else holds: one owner that lives keeps its dependents.
        #[test]
        fn a_live_owner_keeps_its_dependents(states in proptest::collection::vec(0..3usize, 1..5),
            deps in any::<bool>(), waits in any::<bool>()) {
            let states: Vec<_> =
                states.iter().map(|i| [OwnerState::Solid, OwnerState::Gone, OwnerState::Waiting][*i]).collect();
            let decision = decide(&object(&[]), &owned(&states), deps, waits);
            let lives = states.contains(&OwnerState::Solid);
            prop_assert_eq!(lives, !matches!(decision, Decision::Delete { .. }));
        }
    }
}
