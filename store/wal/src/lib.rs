//! The Raft log on disk: segmented, checksummed, group-committed.
//!
//! One writer task owns the disk. Votes, truncations, appends, committed marks and purges reach it in ONE
//! ordered stream; whatever waits when it looks is written as one batch with one fsync, and the answers go
//! out in the order of the stream. Recovery replays the same stream, so that memory and disk cannot differ
//! in order.
//!
//! # Format, version 1
//!
//! All numbers are little endian; checksums are CRC-32C. A log is a folder of segments named by their
//! sequence, `%016x.wal`; sequences have no gaps, and only a prefix is ever removed.
//!
//! A segment is a header and frames:
//!
//! | bytes | header |
//! |---|---|
//! | 6 | `KSWAL\0` |
//! | 2 | format version, 1 |
//! | 8 | sequence |
//! | 8 | salt, random per segment |
//! | 4 | checksum of the 24 bytes above |
//! | 4 | 0 |
//!
//! | bytes | frame |
//! |---|---|
//! | 4 | `KSFR` |
//! | 4 | length of the payload |
//! | 8 | number of the frame in its segment, from 0 |
//! | 8 | synced: offset in this segment below which all was durable when the frame was written |
//! | 4 | checksum of salt, length, number, synced and payload |
//! | n | payload: records |
//!
//! | record | content after the one byte that names it |
//! |---|---|
//! | 1 entry | index 8, term 8, kind 1, length 4, checksum of the body 4, body |
//! | 2 vote | length 4, bytes (opaque) |
//! | 3 committed | length 4, bytes (opaque) |
//! | 4 truncate | index 8: that entry and all later ones are void |
//! | 5 purge | index 8, length 4, bytes (opaque): that entry and all earlier ones are void |
//!
//! The first frame of a segment repeats the vote, the committed mark and the purge mark, so that older
//! segments can be removed. A segment gets its name only after its header and first frame are durable.
//!
//! The last segment may have zeros behind its last frame: it grows by more than it must, because a sync that finds
//! neither a new length nor new blocks is much faster. They are cut when it is closed, and when it is opened again.
//!
//! # What is damage and what is a torn tail
//!
//! A crash may leave any part of what was not yet synced, also a later part without an earlier one. Every
//! frame says how much was durable when it was written: if an invalid frame at offset `o` of the LAST
//! segment is followed by a valid one whose `synced` is beyond `o`, durable data was damaged and opening
//! fails; otherwise the invalid rest was never acknowledged and is cut. In any other segment every invalid
//! byte is damage. Damage to the very last frame cannot be told from a torn write. What recovery keeps beyond
//! the last `synced` is written and synced again: after a failed sync the kernel may show bytes that the disk
//! does not have. The salt keeps bytes that a client stored from passing for a frame.

// See that crate.
#[cfg(madsim)]
extern crate keelstone_madsim as tokio;

mod codec;
pub mod constants;
mod entry;
mod error;
#[cfg(test)]
mod fuzz;
mod health;
mod memory;
mod read;
mod recovery;
mod segment;
mod verify;
mod wal;
mod writer;

pub use constants::{ENTRY_BYTES_MAX, SEGMENT_BYTES_MAX};
pub use entry::LogEntry;
pub use error::WalError;
pub use health::WalHealth;
pub use verify::{verify, WalSummary};
pub use wal::{Flushed, Wal, WalOptions, WalState};
