use std::error::Error;

use keelstone_etcd_api::ApiError;
use tonic::{Code, ConnectError, Status};

use crate::KvError;

/// What a failed attempt tells about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The store answered; another member would answer the same.
    Final,
    /// Certainly not carried out, and another member may do better.
    NotSent,
    /// It may have been carried out. Only a read may be sent again.
    Unknown,
}

/// Reads the error and the verdict from a gRPC status.
pub(crate) fn judge(status: &Status) -> (KvError, Verdict) {
    if let Some(error) = ApiError::from_status(status) {
        return (KvError::Api(error), judge_api(error));
    }
    if connect_failed(status) {
        return (KvError::Unreachable(text(status)), Verdict::NotSent);
    }
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted
        | Code::Unimplemented => (KvError::Refused(text(status)), Verdict::Final),
        _ => (KvError::Unknown(text(status)), Verdict::Unknown),
    }
}

fn judge_api(error: ApiError) -> Verdict {
    match error {
        // Refused before it entered the log.
        ApiError::NoLeader | ApiError::NotLeader | ApiError::Unhealthy | ApiError::NotSupportedForLearner => {
            Verdict::NotSent
        }
        error if KvError::Api(error).outcome_unknown() => Verdict::Unknown,
        _ => Verdict::Final,
    }
}

/// True if no connection was made, so that nothing can have been sent.
fn connect_failed(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The message with its deepest cause: tonic's own texts often say only `transport error`.
fn text(status: &Status) -> String {
    let mut deepest = None;
    let mut source = status.source();
    while let Some(error) = source {
        deepest = Some(error.to_string());
        source = error.source();
    }
    match deepest {
        Some(cause) if !status.message().contains(&cause) => format!("{}: {cause}", status.message()),
        _ => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_may_have_taken_effect_is_never_called_not_sent() {
        for error in ApiError::ALL {
            let (read, verdict) = judge(&Status::from(*error));
            assert_eq!(read.outcome_unknown(), verdict == Verdict::Unknown, "{error:?}");
        }
    }

    #[test]
    fn unknown_texts_are_judged_by_their_code() {
        assert_eq!(judge(&Status::unavailable("transport is closing")).1, Verdict::Unknown);
        assert_eq!(judge(&Status::internal("h2 protocol error")).1, Verdict::Unknown);
        assert_eq!(judge(&Status::cancelled("timeout expired")).1, Verdict::Unknown);
        let (error, verdict) = judge(&Status::unimplemented("not served"));
        assert!(matches!(error, KvError::Refused(_)) && verdict == Verdict::Final);
    }
}
