use keelstone_machinery::status::ApiStatus;
use thiserror::Error;

/// Why a call to the API did not succeed.
#[derive(Debug, Clone, Error)]
pub enum ClientError {
    /// The API server answered with a Status.
    #[error("{0}")]
    Status(ApiStatus),
    /// No API server took the request: it certainly has no effect.
    #[error("no API server reached: {0}")]
    Transport(String),
    /// A mutating request was sent, and its answer is not known: it may or may not have taken effect.
    #[error("the outcome of the request is unknown: {0}")]
    OutcomeUnknown(String),
    /// The answer is not what the API promises.
    #[error("unexpected answer of the API server: {0}")]
    Decode(String),
    /// A write was refused locally because leadership is lost or about to be.
    #[error("not the leader: {0}")]
    NotLeader(String),
}

pub type ClientResult<T> = Result<T, ClientError>;

impl ClientError {
    /// The Status, if the API server answered with one.
    pub fn status(&self) -> Option<&ApiStatus> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The HTTP code of the Status; 0 if there is none.
    pub fn code(&self) -> u16 {
        self.status().map_or(0, |s| s.code)
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.status().is_some_and(|s| s.reason == reason)
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// The object has changed since it was read (409 Conflict).
    pub fn is_conflict(&self) -> bool {
        self.has_reason("Conflict")
    }

    pub fn is_already_exists(&self) -> bool {
        self.has_reason("AlreadyExists")
    }

    /// The resourceVersion or continue token is too old: list again (410).
    pub fn is_gone(&self) -> bool {
        self.code() == 410
    }

    pub fn is_invalid(&self) -> bool {
        self.has_reason("Invalid")
    }

    pub fn is_forbidden(&self) -> bool {
        self.code() == 403
    }

    pub fn is_unauthorized(&self) -> bool {
        self.code() == 401
    }

    pub fn is_too_many_requests(&self) -> bool {
        self.code() == 429
    }

    /// The namespace is being deleted, so nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        self.code() == 403 && self.status().is_some_and(|s| s.message.contains("because it is being terminated"))
    }

    /// The write may have taken effect although it did not succeed: read before deciding what to do next.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown(_) | Self::Decode(_)) || matches!(self.code(), 500 | 502 | 503 | 504)
    }

    /// The write was refused because leadership is lost.
    pub fn is_not_leader(&self) -> bool {
        matches!(self, Self::NotLeader(_))
    }
}
