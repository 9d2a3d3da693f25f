use serde::{Deserialize, Serialize};

use crate::Ending;

/// What a client asked for. Every written value is written once in a history, so that a value names its write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Read {
        key: String,
    },
    Write {
        key: String,
        value: String,
    },
    /// Writes if the key's modification revision is `expected` (0: the key is absent).
    CompareAndSet {
        key: String,
        expected: i64,
        value: String,
    },
    Delete {
        key: String,
    },
}

impl Call {
    pub fn key(&self) -> &str {
        match self {
            Self::Read { key } | Self::Write { key, .. } | Self::CompareAndSet { key, .. } | Self::Delete { key } => {
                key
            }
        }
    }

    pub fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

/// What the client knows of the end of its call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A read: the value and its modification revision (0: absent), read at `revision`.
    Read { value: Option<String>, mod_revision: i64, revision: i64 },
    /// A write that was carried out at `revision` (0: a deletion whose client was not told).
    Written { revision: i64 },
    /// A compare-and-set that was refused because the key had another modification revision; `revision` is 0
    /// if the client was not told.
    Refused { revision: i64 },
    /// Certainly not carried out.
    Failed { error: String },
    /// Perhaps carried out, perhaps later.
    Unknown { error: String },
}

impl Outcome {
    /// No more than how it ended.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Failed { .. } => Ending::Failed,
            Self::Unknown { .. } => Ending::Unknown,
            _ => Ending::Ok,
        }
    }
}

/// A call with its times. Times are of one clock for all clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub client: u32,
    pub start_us: u64,
    pub end_us: u64,
    pub call: Call,
    pub outcome: Outcome,
}

/// One change as a watch, or the store's own log, tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Event {
    pub revision: i64,
    pub key: String,
    /// `None` is a deletion.
    pub value: Option<String>,
}

/// What all clients did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub operations: Vec<Operation>,
}

impl History {
    /// How many ended with each kind of outcome: known, failed, unknown.
    pub fn counts(&self) -> (usize, usize, usize) {
        let of = |f: fn(&Outcome) -> bool| self.operations.iter().filter(|o| f(&o.outcome)).count();
        let failed = of(|o| matches!(o, Outcome::Failed { .. }));
        let unknown = of(|o| matches!(o, Outcome::Unknown { .. }));
        (self.operations.len() - failed - unknown, failed, unknown)
    }
}
