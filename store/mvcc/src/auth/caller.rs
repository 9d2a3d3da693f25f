/// On whose behalf a command is carried out. No caller at all is the store itself, which may do everything.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Caller {
    /// The user; empty if the client did not say who it is.
    #[prost(string, tag = "1")]
    pub user: String,
    /// The revision of users and roles under which the caller was authenticated; 0 if it was not. A command
    /// that meets a newer one is refused with `revision of auth store is old`: its client asks again.
    #[prost(uint64, tag = "2")]
    pub auth_revision: u64,
}
