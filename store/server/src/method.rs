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
}

impl Method {
    /// In the order of their numbers.
    pub const ALL: [Self; 20] = [
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
    ];

    pub fn is_unary(self) -> bool {
        !matches!(self, Self::Watch | Self::LeaseKeepAlive | Self::Snapshot | Self::RangeStream)
    }

    /// The labels of Prometheus' gRPC metrics, without braces.
    pub fn labels(self) -> String {
        let (service, method) = self.names();
        let kind = match self {
            Self::Snapshot | Self::RangeStream => "server_stream",
            Self::Watch | Self::LeaseKeepAlive => "bidi_stream",
            _ => "unary",
        };
        format!("grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\"")
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Range => ("KV", "Range"),
            Self::RangeStream => ("KV", "RangeStream"),
            Self::Put => ("KV", "Put"),
            Self::DeleteRange => ("KV", "DeleteRange"),
            Self::Txn => ("KV", "Txn"),
            Self::Compact => ("KV", "Compact"),
            Self::Watch => ("Watch", "Watch"),
            Self::LeaseGrant => ("Lease", "LeaseGrant"),
            Self::LeaseRevoke => ("Lease", "LeaseRevoke"),
            Self::LeaseKeepAlive => ("Lease", "LeaseKeepAlive"),
            Self::LeaseTimeToLive => ("Lease", "LeaseTimeToLive"),
            Self::LeaseLeases => ("Lease", "LeaseLeases"),
            Self::MemberList => ("Cluster", "MemberList"),
            Self::Alarm => ("Maintenance", "Alarm"),
            Self::Status => ("Maintenance", "Status"),
            Self::Defragment => ("Maintenance", "Defragment"),
            Self::Hash => ("Maintenance", "Hash"),
            Self::HashKv => ("Maintenance", "HashKV"),
            Self::Snapshot => ("Maintenance", "Snapshot"),
            Self::MoveLeader => ("Maintenance", "MoveLeader"),
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
