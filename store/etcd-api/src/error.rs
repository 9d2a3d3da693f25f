use tonic::{Code, Status};

/// What every message on the wire begins with, except those that the contract writes bare.
pub const PREFIX: &str = "etcdserver: ";

macro_rules! errors {
    ($($name:ident => $code:ident, $text:literal;)*) => {
        /// Every error that an etcd v3 client may match by code and text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum ApiError {
            $(#[error($text)] $name,)*
        }

        impl ApiError {
            /// All of them, for tests and for reading an error back from the wire.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            pub fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)* }
            }

            /// The exact text on the wire.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

errors! {
    Compacted => OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FutureRevision => OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    LeaseTtlTooLarge => OutOfRange, "etcdserver: too large lease TTL";
    NoSpace => ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    TooManyRequests => ResourceExhausted, "etcdserver: too many requests";
    LeaseNotFound => NotFound, "etcdserver: requested lease not found";
    MemberNotFound => NotFound, "etcdserver: member not found";
    EmptyKey => InvalidArgument, "etcdserver: key is not provided";
    KeyNotFound => InvalidArgument, "etcdserver: key not found";
    ValueProvided => InvalidArgument, "etcdserver: value is provided";
    LeaseProvided => InvalidArgument, "etcdserver: lease is provided";
    TooManyOps => InvalidArgument, "etcdserver: too many operations in txn request";
    DuplicateKey => InvalidArgument, "etcdserver: duplicate key given in txn request";
    InvalidSortOption => InvalidArgument, "etcdserver: invalid sort option";
    RequestTooLarge => InvalidArgument, "etcdserver: request is too large";
    BadMemberUrls => InvalidArgument, "etcdserver: given member URLs are invalid";
    InvalidClientApiVersion => InvalidArgument, "etcdserver: invalid client api version";
    AuthFailed => InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    AuthOldRevision => InvalidArgument, "etcdserver: revision of auth store is old";
    UserEmpty => InvalidArgument, "etcdserver: user name is empty";
    RoleEmpty => InvalidArgument, "etcdserver: role name is empty";
    PermissionNotGiven => InvalidArgument, "etcdserver: permission not given";
    InvalidAuthManagement => InvalidArgument, "etcdserver: invalid auth management";
    RootUserNotExist => FailedPrecondition, "etcdserver: root user does not exist";
    RootRoleNotExist => FailedPrecondition, "etcdserver: root user does not have root role";
    UserAlreadyExists => FailedPrecondition, "etcdserver: user name already exists";
    UserNotFound => FailedPrecondition, "etcdserver: user name not found";
    RoleAlreadyExists => FailedPrecondition, "etcdserver: role name already exists";
    RoleNotFound => FailedPrecondition, "etcdserver: role name not found";
    RoleNotGranted => FailedPrecondition, "etcdserver: role is not granted to the user";
    PermissionNotGranted => FailedPrecondition, "etcdserver: permission is not granted to the role";
    AuthNotEnabled => FailedPrecondition, "etcdserver: authentication is not enabled";
    NoPasswordUser => Unknown, "auth: authentication failed, password was given for no password user";
    TokenVerifyOnly => Unknown, "auth: token signing attempted with verify-only key";
    LockSessionExpired => Unknown, "mutex: session is expired";
    ElectionNotLeader => Unknown, "election: not leader";
    ElectionNoLeader => Unknown, "election: no leader";
    ElectionLeaderMissing => Unknown, "\"leader\" field must be provided";
    LeaseExists => FailedPrecondition, "etcdserver: lease already exists";
    NotLeader => FailedPrecondition, "etcdserver: not leader";
    NotCapable => FailedPrecondition, "etcdserver: not capable";
    NotSupportedForLearner => FailedPrecondition, "etcdserver: rpc not supported for learner";
    BadLeaderTransferee => FailedPrecondition, "etcdserver: bad leader transferee";
    MemberExists => FailedPrecondition, "etcdserver: member ID already exist";
    PeerUrlExists => FailedPrecondition, "etcdserver: Peer URLs already exists";
    NotEnoughStarted => FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members";
    MemberNotLearner => FailedPrecondition, "etcdserver: can only promote a learner member";
    LearnerNotReady => FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners => FailedPrecondition, "etcdserver: too many learner members in cluster";
    ClusterIdMismatch => FailedPrecondition, "etcdserver: cluster ID mismatch";
    WrongDowngradeFormat => InvalidArgument, "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTarget => FailedPrecondition, "etcdserver: invalid downgrade target version";
    DowngradeInProcess => FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade => FailedPrecondition, "etcdserver: no inflight downgrade job";
    NoLeader => Unavailable, "etcdserver: no leader";
    LeaderChanged => Unavailable, "etcdserver: leader changed";
    Stopped => Unavailable, "etcdserver: server stopped";
    Unhealthy => Unavailable, "etcdserver: unhealthy cluster";
    Timeout => Unavailable, "etcdserver: request timed out";
    TimeoutLeaderFail => Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutConnectionLost => Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex => Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    TimeoutLeaderTransfer => Unavailable, "etcdserver: request timed out, leader transfer took too long";
    Corrupt => DataLoss, "etcdserver: corrupt cluster";
    PermissionDenied => PermissionDenied, "etcdserver: permission denied";
    InvalidAuthToken => Unauthenticated, "etcdserver: invalid auth token";
    WatchCanceled => Cancelled, "etcdserver: watch canceled";
    RequestCanceled => Cancelled, "etcdserver: request canceled";
    DeadlineExceeded => DeadlineExceeded, "context deadline exceeded";
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Status::new(error.code(), error.text())
    }
}

impl ApiError {
    /// Reads an error back from a gRPC status; `None` if the text is not in the table.
    pub fn from_status(status: &Status) -> Option<Self> {
        Self::ALL.iter().copied().find(|e| e.text() == status.message() && e.code() == status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_wire() {
        for error in ApiError::ALL {
            assert_eq!(ApiError::from_status(&Status::from(*error)), Some(*error));
        }
    }
}
