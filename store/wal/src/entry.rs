use bytes::Bytes;

/// One entry of the log. What `kind` and `body` mean is the owner's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub kind: u8,
    pub body: Bytes,
}
