use k8s_openapi::{apimachinery::pkg::apis::meta::v1::OwnerReference, Resource};
use keelstone_client::{Api, ClientResult, Object, Patch, PatchOptions};
use keelstone_runtime::ReconcileError;
use serde_json::{json, Value};

/// What a controller does about an object that might be its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the controller's.
    Keep,
    /// It has no controller and matches the selector.
    Adopt,
    /// It is the controller's, but no longer matches.
    Release,
    /// It is none of the controller's business.
    Ignore,
}

/// The rules of client-go's ControllerRefManager.
pub fn claim<T: Object>(object: &T, owner_uid: &str, owner_terminating: bool, matches: bool) -> Claim {
    match object.controller_uid() {
        Some(uid) if uid != owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        // The garbage collector takes care of it.
        Some(_) if owner_terminating => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_terminating || !matches || object.is_terminating() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// A reference to `owner` as its controller.
pub fn controller_reference<T: Object + Resource>(owner: &T) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Reads the owner past the cache: nothing is adopted for an owner that is gone, going, or another by now.
///
/// # Errors
/// If it cannot be read, or must not adopt.
pub async fn check_may_adopt<T: Object>(api: &Api<T>, owner: &T) -> Result<(), ReconcileError> {
    let live = api.within(owner.namespace()).get(owner.name()).await?;
    if live.uid() != owner.uid() {
        return Err(ReconcileError::Other(format!("{} is another object by now", owner.key())));
    }
    if live.is_terminating() {
        return Err(ReconcileError::Other(format!("{} has just been deleted", owner.key())));
    }
    Ok(())
}

/// Adds an owner reference to an object that is still as it was seen.
pub async fn adopt<T: Object>(
    api: &Api<T>,
    object: &T,
    references: Option<&Vec<OwnerReference>>,
    owner: OwnerReference,
) -> ClientResult<T> {
    let mut references = references.cloned().unwrap_or_default();
    references.retain(|reference| reference.uid != owner.uid);
    references.push(owner);
    set_references(api, object, &references).await
}

/// Takes the reference to `owner_uid` from an object that is still as it was seen.
pub async fn release<T: Object>(
    api: &Api<T>,
    object: &T,
    references: Option<&Vec<OwnerReference>>,
    owner_uid: &str,
) -> ClientResult<T> {
    let mut references = references.cloned().unwrap_or_default();
    references.retain(|reference| reference.uid != owner_uid);
    set_references(api, object, &references).await
}

async fn set_references<T: Object>(api: &Api<T>, object: &T, references: &[OwnerReference]) -> ClientResult<T> {
    let references = if references.is_empty() { Value::Null } else { json!(references) };
    let patch = Patch::Merge(json!({"metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(), "ownerReferences": references,
    }}));
    api.within(object.namespace()).patch(object.name(), &patch, &PatchOptions::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(controller: Option<&str>, terminating: bool) -> Pod {
        let mut value = json!({"metadata": {"name": "p", "namespace": "n", "uid": "p"}});
        if let Some(uid) = controller {
            value["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": uid, "controller": true}]);
        }
        if terminating {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn claims_follow_the_controller_reference_then_the_selector() {
        let cases = [
            (Some("other"), false, false, true, Claim::Ignore),
            (Some("me"), false, false, true, Claim::Keep),
            (Some("me"), true, false, true, Claim::Keep),
            (Some("me"), false, false, false, Claim::Release),
            (Some("me"), false, true, false, Claim::Ignore),
            (None, false, false, true, Claim::Adopt),
            (None, false, false, false, Claim::Ignore),
            (None, true, false, true, Claim::Ignore),
            (None, false, true, true, Claim::Ignore),
        ];
        for (controller, terminating, owner_terminating, matches, expected) in cases {
            let got = claim(&pod(controller, terminating), "me", owner_terminating, matches);
            assert_eq!(got, expected, "{controller:?} {terminating} {owner_terminating} {matches}");
        }
    }
}
