use k8s_openapi::api::core::v1::Namespace;
use keelstone_client::{ClientError, Object};

/// Things can be created in it.
pub fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    !namespace.is_terminating() && phase != Some("Terminating")
}

/// A creation that did not succeed, but need not be tried again: the object is there, or its namespace goes.
pub fn is_settled(error: &ClientError) -> bool {
    error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found()
}
