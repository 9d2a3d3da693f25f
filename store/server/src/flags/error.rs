/// Why flags cannot be used, in etcd's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagsError {
    /// The command line itself: told as text, with the usage; exit code 2.
    #[error("{0}")]
    Usage(String),
    /// What the flags say together: told in the log; exit code 1.
    #[error("{0}")]
    Refused(String),
}
