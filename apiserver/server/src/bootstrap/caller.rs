use bytes::Bytes;
use http::{Method, Request};
use keelstone_machinery::status::{ApiResult, ApiStatus};
use serde_json::Value;

use crate::{body, local::LocalService};

/// The API as the server's own loops use it: through all filters, so that what they write is defaulted,
/// checked and allocated like anything else.
#[derive(Clone)]
pub struct ApiCaller(LocalService);

impl ApiCaller {
    pub fn new(service: LocalService) -> Self {
        Self(service)
    }

    /// `None` if there is no such object.
    ///
    /// # Errors
    /// Any other Status.
    pub async fn read(&self, path: &str) -> ApiResult<Option<Value>> {
        match self.call(Method::GET, path, None).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// Any Status.
    pub async fn create(&self, path: &str, object: &Value) -> ApiResult<Value> {
        self.call(Method::POST, path, Some(object)).await
    }

    /// # Errors
    /// Any Status.
    pub async fn update(&self, path: &str, object: &Value) -> ApiResult<Value> {
        self.call(Method::PUT, path, Some(object)).await
    }

    /// # Errors
    /// Any Status.
    pub async fn delete(&self, path: &str) -> ApiResult<Value> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, object: Option<&Value>) -> ApiResult<Value> {
        let body = object.map_or_else(Bytes::new, |o| o.to_string().into());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("user-agent", "kube-apiserver")
            .header("content-type", "application/json")
            .body(body)
            .map_err(|error| ApiStatus::internal(error.to_string()))?;
        let response = self.0.call_local(request).await;
        let failed = response.status().is_client_error() || response.status().is_server_error();
        let answer = body::collect(response.into_body()).await?;
        let value: Value = serde_json::from_slice(&answer).map_err(|error| ApiStatus::internal(error.to_string()))?;
        if failed {
            return Err(
                ApiStatus::from_value(&value).unwrap_or_else(|| ApiStatus::internal("an answer without a Status"))
            );
        }
        Ok(value)
    }
}
