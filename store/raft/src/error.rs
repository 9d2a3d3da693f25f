use keelstone_etcd_api::ApiError;

/// Why a call to the replicated log failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RaftError {
    /// The state machine's answer, or a refusal, in the words of the etcd v3 contract. Nothing was changed.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// The command may have been, or may still be, carried out. Never retried by this crate.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// No leader is known or reachable; the command was certainly not carried out.
    #[error("no leader")]
    NoLeader,
    /// Not answered in time; the command was certainly not carried out.
    #[error("timed out before the request was sent to a leader")]
    Timeout,
    /// The member is shutting down, or had to stop; the command was certainly not carried out.
    #[error("the member has stopped")]
    Stopped,
    /// The member cannot start or go on.
    #[error("{0}")]
    Fatal(String),
}

impl RaftError {
    /// True if the command may have taken effect in spite of the error.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// The error as an etcd v3 client knows it. An unknown outcome becomes a time-out
    /// "possibly due to connection lost", which clients must not retry blindly.
    pub fn api(&self) -> ApiError {
        match self {
            Self::Api(error) => *error,
            Self::Unknown(_) => ApiError::TimeoutConnectionLost,
            Self::NoLeader => ApiError::NoLeader,
            Self::Timeout => ApiError::Timeout,
            Self::Stopped | Self::Fatal(_) => ApiError::Stopped,
        }
    }
}
