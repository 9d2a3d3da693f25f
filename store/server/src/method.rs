/// The gRPC methods that are served, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Compact,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
    LeaseLeases,
    MemberList,
    Alarm,
    Status,
    Defragment,
    Hash,
    HashKv,
    Snapshot,
    MoveLeader,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    UserAdd,
    UserGet,
    UserList,
    UserDelete,
    UserChangePassword,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleGet,
    RoleList,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Observe,
    Resign,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    Downgrade,
}

/// What a method asks of its caller while auth is on, beside what is checked for the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    /// To be any user.
    Known,
    /// The role `root`.
    Root,
}

impl Method {
    /// In the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::Range,
        Self::RangeStream,
        Self::Put,
        Self::DeleteRange,
        Self::Txn,
        Self::Compact,
        Self::Watch,
        Self::LeaseGrant,
        Self::LeaseRevoke,
        Self::LeaseKeepAlive,
        Self::LeaseTimeToLive,
        Self::LeaseLeases,
        Self::MemberList,
        Self::Alarm,
        Self::Status,
        Self::Defragment,
        Self::Hash,
        Self::HashKv,
        Self::Snapshot,
        Self::MoveLeader,
        Self::AuthEnable,
        Self::AuthDisable,
        Self::AuthStatus,
        Self::Authenticate,
        Self::UserAdd,
        Self::UserGet,
        Self::UserList,
        Self::UserDelete,
        Self::UserChangePassword,
        Self::UserGrantRole,
        Self::UserRevokeRole,
        Self::RoleAdd,
        Self::RoleGet,
        Self::RoleList,
        Self::RoleDelete,
        Self::RoleGrantPermission,
        Self::RoleRevokePermission,
        Self::Lock,
        Self::Unlock,
        Self::Campaign,
        Self::Proclaim,
        Self::Leader,
        Self::Observe,
        Self::Resign,
        Self::MemberAdd,
        Self::MemberRemove,
        Self::MemberUpdate,
        Self::MemberPromote,
        Self::Downgrade,
    ];

    pub fn is_unary(self) -> bool {
        !matches!(self, Self::Watch | Self::LeaseKeepAlive | Self::Observe | Self::Snapshot | Self::RangeStream)
    }

    /// Cluster and maintenance are root's. The list of members and the alarms are for every user (who changes
    /// an alarm is checked when that is applied); keys, leases, users and roles are checked one by one.
    pub fn need(self) -> Need {
        match (self, self.names().0) {
            (Self::MemberList | Self::Alarm, _) => Need::Known,
            (_, "etcdserverpb.Cluster" | "etcdserverpb.Maintenance") => Need::Root,
            _ => Need::Nothing,
        }
    }

    /// The labels of Prometheus' gRPC metrics, without braces.
    pub fn labels(self) -> String {
        let (service, method) = self.names();
        let kind = match self {
            Self::Snapshot | Self::RangeStream | Self::Observe => "server_stream",
            Self::Watch | Self::LeaseKeepAlive => "bidi_stream",
            _ => "unary",
        };
        format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Range => ("etcdserverpb.KV", "Range"),
            Self::RangeStream => ("etcdserverpb.KV", "RangeStream"),
            Self::Put => ("etcdserverpb.KV", "Put"),
            Self::DeleteRange => ("etcdserverpb.KV", "DeleteRange"),
            Self::Txn => ("etcdserverpb.KV", "Txn"),
            Self::Compact => ("etcdserverpb.KV", "Compact"),
            Self::Watch => ("etcdserverpb.Watch", "Watch"),
            Self::LeaseGrant => ("etcdserverpb.Lease", "LeaseGrant"),
            Self::LeaseRevoke => ("etcdserverpb.Lease", "LeaseRevoke"),
            Self::LeaseKeepAlive => ("etcdserverpb.Lease", "LeaseKeepAlive"),
            Self::LeaseTimeToLive => ("etcdserverpb.Lease", "LeaseTimeToLive"),
            Self::LeaseLeases => ("etcdserverpb.Lease", "LeaseLeases"),
            Self::MemberList => ("etcdserverpb.Cluster", "MemberList"),
            Self::Alarm => ("etcdserverpb.Maintenance", "Alarm"),
            Self::Status => ("etcdserverpb.Maintenance", "Status"),
            Self::Defragment => ("etcdserverpb.Maintenance", "Defragment"),
            Self::Hash => ("etcdserverpb.Maintenance", "Hash"),
            Self::HashKv => ("etcdserverpb.Maintenance", "HashKV"),
            Self::Snapshot => ("etcdserverpb.Maintenance", "Snapshot"),
            Self::MoveLeader => ("etcdserverpb.Maintenance", "MoveLeader"),
            Self::AuthEnable => ("etcdserverpb.Auth", "AuthEnable"),
            Self::AuthDisable => ("etcdserverpb.Auth", "AuthDisable"),
            Self::AuthStatus => ("etcdserverpb.Auth", "AuthStatus"),
            Self::Authenticate => ("etcdserverpb.Auth", "Authenticate"),
            Self::UserAdd => ("etcdserverpb.Auth", "UserAdd"),
            Self::UserGet => ("etcdserverpb.Auth", "UserGet"),
            Self::UserList => ("etcdserverpb.Auth", "UserList"),
            Self::UserDelete => ("etcdserverpb.Auth", "UserDelete"),
            Self::UserChangePassword => ("etcdserverpb.Auth", "UserChangePassword"),
            Self::UserGrantRole => ("etcdserverpb.Auth", "UserGrantRole"),
            Self::UserRevokeRole => ("etcdserverpb.Auth", "UserRevokeRole"),
            Self::RoleAdd => ("etcdserverpb.Auth", "RoleAdd"),
            Self::RoleGet => ("etcdserverpb.Auth", "RoleGet"),
            Self::RoleList => ("etcdserverpb.Auth", "RoleList"),
            Self::RoleDelete => ("etcdserverpb.Auth", "RoleDelete"),
            Self::RoleGrantPermission => ("etcdserverpb.Auth", "RoleGrantPermission"),
            Self::RoleRevokePermission => ("etcdserverpb.Auth", "RoleRevokePermission"),
            Self::Lock => ("v3lockpb.Lock", "Lock"),
            Self::Unlock => ("v3lockpb.Lock", "Unlock"),
            Self::Campaign => ("v3electionpb.Election", "Campaign"),
            Self::Proclaim => ("v3electionpb.Election", "Proclaim"),
            Self::Leader => ("v3electionpb.Election", "Leader"),
            Self::Observe => ("v3electionpb.Election", "Observe"),
            Self::Resign => ("v3electionpb.Election", "Resign"),
            Self::MemberAdd => ("etcdserverpb.Cluster", "MemberAdd"),
            Self::MemberRemove => ("etcdserverpb.Cluster", "MemberRemove"),
            Self::MemberUpdate => ("etcdserverpb.Cluster", "MemberUpdate"),
            Self::MemberPromote => ("etcdserverpb.Cluster", "MemberPromote"),
            Self::Downgrade => ("etcdserverpb.Maintenance", "Downgrade"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_the_order_of_the_numbers() {
        for (number, method) in Method::ALL.iter().enumerate() {
            assert_eq!(*method as usize, number);
        }
    }
}
