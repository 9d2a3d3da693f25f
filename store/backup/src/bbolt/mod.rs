//! bbolt files (etcd's database, version 2 of the format): a writer that streams in bounded memory and a
//! reader that trusts nothing.
//!
//! # The format
//!
//! Numbers are little endian. A file is pages of equal size (4096 bytes here); page `n` lies at `n * size`. A
//! page that needs more room has `overflow` pages behind it.
//!
//! | bytes | page header |
//! |---|---|
//! | 8 | id |
//! | 2 | kind: 1 branch, 2 leaf, 4 meta, 16 freelist |
//! | 2 | count of elements |
//! | 4 | overflow: pages behind this one that belong to it |
//!
//! | bytes | meta (pages 0 and 1; the valid one with the higher transaction counts) |
//! |---|---|
//! | 4 | magic `0xED0CDAED` |
//! | 4 | version, 2 |
//! | 4 | page size |
//! | 4 | flags, 0 |
//! | 8 + 8 | root bucket: root page, sequence |
//! | 8 | page of the freelist |
//! | 8 | high water: the first page id that was never used |
//! | 8 | transaction |
//! | 8 | FNV-1a-64 of the 56 bytes above |
//!
//! A leaf's elements are `flags 4 (1: the value is a bucket), position 4, key length 4, value length 4`; a
//! branch's are `position 4, key length 4, page 8`, where the key is the first one below that page. A position
//! counts from the element's own beginning to its key; a value follows its key. A bucket as a value is
//! `root page 8, sequence 8`; with root page 0 its only leaf follows at once (an inline bucket).
//!
//! # Worked example
//!
//! Loading keys in order needs one unfinished page per level. With pages that hold two elements, the pairs
//! `a b c d e` become
//!
//! ```text
//! page 3  leaf   a b          <- written when c arrives; (a, 3) goes to level 1
//! page 4  leaf   c d          <- written when e arrives; (c, 4) goes to level 1
//! page 5  leaf   e            <- the end: (e, 5) does not fit level 1 any more
//! page 6  branch a->3 c->4    <- written for that; (a, 6) goes to level 2
//! page 7  branch e->5
//! page 8  branch a->6 e->7    <- the root
//! ```
//!
//! Pages are written once, in the order of their ids. Only the metas, which come first, need to know the root
//! and the number of pages: whoever streams a file runs the load twice, first into a sink that counts.

mod bolt;
mod check;
mod cursor;
mod page;
mod tree;
mod writer;

pub use bolt::{Bolt, Bucket};
pub use check::{check, Checked};
pub use cursor::{Cursor, Item, Value};
pub use writer::{BoltWriter, Layout, PageSink};
