use bytes::{BufMut, Bytes, BytesMut};

use super::{
    page::{self, Meta, PageHeader, FREELIST},
    tree::{Root, Tree},
};
use crate::{
    constants::{BOLT_KEY_BYTES_MAX, BOLT_NESTING_MAX, BOLT_PAGE_BYTES, BOLT_VALUE_BYTES_MAX},
    BackupError,
};

/// Where finished pages go, in the order of their ids, beginning with page 3.
pub trait PageSink {
    fn write(&mut self, page: &[u8]) -> Result<(), BackupError>;
}

impl PageSink for BytesMut {
    fn write(&mut self, page: &[u8]) -> Result<(), BackupError> {
        self.put_slice(page);
        Ok(())
    }
}

impl PageSink for Vec<u8> {
    fn write(&mut self, page: &[u8]) -> Result<(), BackupError> {
        self.extend_from_slice(page);
        Ok(())
    }
}

/// Counts on the way to a [`Layout`]; keeps nothing.
impl PageSink for () {
    fn write(&mut self, _: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Metas and freelist come before the pages of the trees.
const FIRST_TREE_PAGE: u64 = 3;
const FREELIST_PAGE: u64 = 2;

/// Gives pages their ids.
pub(super) struct Pages<S> {
    sink: S,
    next_id: u64,
    page_bytes: usize,
}

impl<S: PageSink> Pages<S> {
    pub(super) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Writes the page that was made for [`Pages::next_id`]; returns its id.
    pub(super) fn write(&mut self, page: &[u8]) -> Result<u64, BackupError> {
        let id = self.next_id;
        self.sink.write(page)?;
        self.next_id += (page.len() / self.page_bytes) as u64;
        Ok(id)
    }
}

/// What the beginning of a file says about the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    page_bytes: usize,
    root: u64,
    pages: u64,
}

impl Layout {
    /// The metas and the (empty) freelist: what comes before the writer's pages.
    pub fn head(&self) -> Bytes {
        let meta = |transaction| Meta {
            page_bytes: u32::try_from(self.page_bytes).unwrap_or(u32::MAX),
            root: self.root,
            sequence: 0,
            freelist: FREELIST_PAGE,
            pages: self.pages,
            transaction,
        };
        let mut head = BytesMut::with_capacity(3 * self.page_bytes);
        head.put_slice(&meta(0).encode_page(0));
        head.put_slice(&meta(1).encode_page(1));
        PageHeader { id: FREELIST_PAGE, kind: FREELIST, count: 0, overflow: 0 }.encode(&mut head);
        head.resize(3 * self.page_bytes, 0);
        head.freeze()
    }

    /// Length of the whole file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.pages * self.page_bytes as u64
    }
}

/// Writes a bbolt file in one go: pairs and buckets must come in key order. Holds a page a level of each open
/// bucket.
pub struct BoltWriter<S> {
    pages: Pages<S>,
    /// The root bucket, and the open buckets in it with their names.
    open: Vec<(Bytes, Tree)>,
}

impl<S: PageSink> BoltWriter<S> {
    pub fn new(sink: S) -> Self {
        Self::with_page_bytes(sink, BOLT_PAGE_BYTES)
    }

    /// With another page size, which must be a power of two from 512 to 65,536.
    pub fn with_page_bytes(sink: S, page_bytes: usize) -> Self {
        let pages = Pages { sink, next_id: FIRST_TREE_PAGE, page_bytes };
        Self { pages, open: vec![(Bytes::new(), Tree::new())] }
    }

    /// What was written so far and not taken.
    pub fn sink(&mut self) -> &mut S {
        &mut self.pages.sink
    }

    /// Opens a bucket in the open one.
    ///
    /// # Errors
    /// If buckets are nested too deeply.
    pub fn begin_bucket(&mut self, name: impl Into<Bytes>) -> Result<(), BackupError> {
        if self.open.len() > BOLT_NESTING_MAX {
            return Err(BackupError::refused(format!("more than {BOLT_NESTING_MAX} buckets in each other")));
        }
        self.open.push((name.into(), Tree::new()));
        Ok(())
    }

    /// Closes the open bucket.
    ///
    /// # Errors
    /// If its name does not follow what came before, or no bucket is open.
    pub fn end_bucket(&mut self) -> Result<(), BackupError> {
        let (Some((name, tree)), true) = (self.open.pop(), !self.open.is_empty()) else {
            return Err(BackupError::refused("no bucket is open"));
        };
        let value = match tree.finish(&mut self.pages, true)? {
            Root::Page(root) => page::bucket_value(root, 0),
            Root::Inline(leaf) => [page::bucket_value(0, 0), leaf].concat().into(),
        };
        self.push(page::BUCKET_FLAG, name, value)
    }

    /// Adds a pair to the open bucket.
    ///
    /// # Errors
    /// If the key is not greater than the one before, or bbolt's bounds are exceeded.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), BackupError> {
        self.push(0, key.into(), value.into())
    }

    fn push(&mut self, flags: u32, key: Bytes, value: Bytes) -> Result<(), BackupError> {
        if key.len() > BOLT_KEY_BYTES_MAX || value.len() > BOLT_VALUE_BYTES_MAX {
            return Err(BackupError::refused(format!(
                "a pair of {} and {} bytes is too large",
                key.len(),
                value.len()
            )));
        }
        match self.open.last_mut() {
            Some((_, tree)) => tree.push(&mut self.pages, flags, key, value),
            None => Err(BackupError::refused("no bucket is open")),
        }
    }

    /// Writes what is left of the root bucket.
    ///
    /// # Errors
    /// If a bucket is still open.
    pub fn finish(mut self) -> Result<(Layout, S), BackupError> {
        let (Some((_, root)), true) = (self.open.pop(), self.open.is_empty()) else {
            return Err(BackupError::refused("a bucket is still open"));
        };
        let Root::Page(root) = root.finish(&mut self.pages, false)? else {
            return Err(BackupError::refused("the root is never inline"));
        };
        let layout = Layout { page_bytes: self.pages.page_bytes, root, pages: self.pages.next_id };
        Ok((layout, self.pages.sink))
    }
}
