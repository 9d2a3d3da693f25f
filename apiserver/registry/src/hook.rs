use async_trait::async_trait;
use keelstone_machinery::status::ApiResult;
use serde_json::Value;

/// The operation as admission sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// Admission, implemented by the server for one request. Called inside the compare-and-set loop, so perhaps
/// several times, each time with the state that the write would be based on.
#[async_trait]
pub trait WriteHook: Send + Sync {
    /// May change the object; runs after the request was merged into the current state and before the
    /// strategy and the validation.
    async fn mutate(&self, operation: Operation, object: &mut Value, old: Option<&Value>) -> ApiResult<()>;

    /// May refuse; runs last before the write. `object` is `None` for a deletion.
    async fn validate(&self, operation: Operation, object: Option<&Value>, old: Option<&Value>) -> ApiResult<()>;

    /// Called once after a write that was carried out with a state other than before (never for dry runs); for
    /// what has to follow it, such as giving back an allocation.
    async fn written(&self, _operation: Operation, _object: Option<&Value>, _old: Option<&Value>) {}
}

/// Admits everything: for the server's own writes and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

#[async_trait]
impl WriteHook for NoHook {
    async fn mutate(&self, _: Operation, _: &mut Value, _: Option<&Value>) -> ApiResult<()> {
        Ok(())
    }

    async fn validate(&self, _: Operation, _: Option<&Value>, _: Option<&Value>) -> ApiResult<()> {
        Ok(())
    }
}
