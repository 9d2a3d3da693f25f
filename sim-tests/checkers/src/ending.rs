use serde::{Deserialize, Serialize};

/// What a client knows of the end of a call, for checkers whose calls tell no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Carried out.
    Ok,
    /// Certainly not carried out.
    Failed,
    /// Perhaps carried out, perhaps later.
    Unknown,
}

/// A call with its times, of one clock for all clients, and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended<C> {
    pub client: u32,
    pub start_us: u64,
    pub end_us: u64,
    pub call: C,
    pub ending: Ending,
}
