use keelstone_etcd_api::ApiError;
use keelstone_machinery::status::{ApiResult, ApiStatus, Cause, Details};
use keelstone_store_client::KvError;

/// How a store call failed, after all its retries.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store refused the request for good.
    #[error("{0}")]
    Refused(ApiError),
    /// The store refused the request with an error that is not in its table.
    #[error("{0}")]
    Foreign(String),
    /// No majority answered in time; the request has certainly changed nothing.
    #[error("{0}")]
    Unavailable(String),
    /// No majority answered in time; the request may have been carried out.
    #[error("{0}")]
    Unknown(String),
}

/// True if the same call may succeed a moment later.
pub fn is_transient(error: &KvError) -> bool {
    match error {
        KvError::Unknown(_) | KvError::Unreachable(_) => true,
        KvError::Refused(_) => false,
        KvError::Api(error) => matches!(
            error,
            ApiError::NoLeader
                | ApiError::LeaderChanged
                | ApiError::NotLeader
                | ApiError::Stopped
                | ApiError::Unhealthy
                | ApiError::Timeout
                | ApiError::TimeoutLeaderFail
                | ApiError::TimeoutConnectionLost
                | ApiError::TimeoutWaitAppliedIndex
                | ApiError::TooManyRequests
                | ApiError::DeadlineExceeded
                | ApiError::RequestCanceled
                | ApiError::NotSupportedForLearner
        ),
    }
}

impl StoreError {
    /// The Status that a client sees.
    pub fn to_status(&self) -> ApiStatus {
        match self {
            Self::Refused(ApiError::RequestTooLarge) => ApiStatus::too_large("the object is too large for the store"),
            Self::Refused(ApiError::NoSpace) => {
                ApiStatus::service_unavailable("the store's space quota is exceeded: nothing can be written")
            }
            Self::Refused(error) => ApiStatus::internal(error.text()),
            Self::Foreign(text) => ApiStatus::internal(text.as_str()),
            Self::Unavailable(why) => ApiStatus::service_unavailable(format!(
                "the store cannot be read or written: its quorum is lost or out of reach ({why})"
            )),
            Self::Unknown(why) => ApiStatus::timeout(
                &format!(
                    "the store's quorum is lost or out of reach and did not confirm the write, which may or may not \
                     have been carried out ({why})"
                ),
                1,
            ),
        }
    }
}

impl From<StoreError> for ApiStatus {
    fn from(error: StoreError) -> Self {
        error.to_status()
    }
}

/// The answer to a read whose resourceVersion lies in the future, in the form that client-go recognises.
pub fn too_large_resource_version(wanted: i64, current: i64) -> ApiStatus {
    let cause = Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    ApiStatus::new(504, "Timeout", format!("Timeout: Too large resource version: {wanted}, current: {current}"))
        .with_details(Details { causes: vec![cause], retry_after_s: Some(1), ..Details::default() })
}

/// The answer to a watch that starts before the oldest revision that is kept.
pub fn too_old_resource_version(wanted: i64, oldest: i64) -> ApiStatus {
    ApiStatus::expired(format!("too old resource version: {wanted} ({oldest})"))
}

/// The answer to an exact list at a revision that has been compacted.
pub fn compacted_list() -> ApiStatus {
    ApiStatus::expired("The resourceVersion for the provided list is too old.")
}

/// An object in the store that this server cannot read.
pub fn corrupt<T>(key: &str, error: &dyn std::fmt::Display) -> ApiResult<T> {
    tracing::error!(key, %error, "stored object cannot be read");
    Err(ApiStatus::internal(format!("unable to read the stored object {key}: {error}")))
}
