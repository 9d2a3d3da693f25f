//! etcd's snapshot files: its database (a bbolt file) and, behind it, the SHA-256 of that.
//!
//! | bucket | rows |
//! |---|---|
//! | `key` | main revision 8, `_`, sub revision 8 and, for a deletion, `t` -> `mvccpb.KeyValue` |
//! | `meta` | `consistent_index` 8, `term` 8, `scheduledCompactRev` and `finishedCompactRev` (a revision as above), `confState` JSON |
//! | `lease` | id 8 -> message: 1 id, 2 time to live in seconds, 3 remaining time |
//! | `alarm` | `AlarmMember` -> nothing |
//! | `auth` | `authEnabled` 1, `authRevision` 8 |
//! | `authUsers`, `authRoles` | name -> `authpb.User`, `authpb.Role` |
//! | `members`, `members_removed` | id in 16 hexadecimal digits -> JSON |
//! | `cluster` | `clusterVersion` |
//!
//! Numbers in keys and in `meta` are big endian. A row of `key` whose key is empty stands for a revision that
//! was skipped (etcd's `--bump-revision` writes one).

mod file;
mod import;
mod save;
mod schema;
mod snapshot;
mod status;

pub use file::{EtcdFile, EtcdHead, EtcdRows};
pub use import::{import, Epoch, ImportPlace};
pub use save::save;
pub use snapshot::{About, EtcdSnapshot};
pub use status::{status, SnapshotStatus};
