//! Continuous backup to a folder, and restores to any moment from it.
//!
//! ```text
//! full-<revision>-<unix ms>.db     an etcd snapshot file: the state at that revision
//! log-<first revision>.seg         a closed segment: the changes from that revision on
//! log-<first revision>.part        the segment that is being written
//! state.json                       how far the backup is, for people
//! owner                            who writes here: a later one takes over, an earlier one then stops
//! ```
//!
//! Revisions and times in names are 16 hexadecimal digits. A moment can be restored if a full backup at or
//! before it and an unbroken chain of segments up to it are there.
//!
//! Invariant: whatever a frame says is complete (`through`) is in this frame or an earlier one of the chain, and
//! durable. So a crash of either side loses nothing but the time until the next start.

mod folder;
mod frame;
mod grpc_source;
mod log;
mod mvcc_source;
mod plan;
mod progress;
mod recorder;
mod restore;
mod segment;
mod source;
mod verify;

pub use folder::{Folder, Full, SegmentName};
pub use frame::{Change, Frame, LeaseMark};
pub use grpc_source::{GrpcSource, GrpcSourceOptions};
pub use mvcc_source::MvccSource;
pub use plan::{plan, Plan, Target};
pub use progress::{read_progress, Progress};
pub use recorder::{Recorder, RecorderOptions};
pub use restore::restore;
pub use segment::{SegmentHeader, SegmentReader, SegmentWriter};
pub use source::{Source, SourceError, WatchPart};
pub use verify::{verify, Verified};
