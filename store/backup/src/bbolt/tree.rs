//! Loading one bucket's tree in key order: see the worked example in the module's documentation.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    page::{self, PageHeader, BRANCH, HEADER_BYTES, LEAF},
    writer::{PageSink, Pages},
};
use crate::BackupError;

/// An element of a page that is not written yet.
struct Element {
    key: Bytes,
    /// Of a leaf.
    flags: u32,
    value: Bytes,
    /// Of a branch.
    child: u64,
}

/// The unfinished page of one level; level 0 is the leaves'.
#[derive(Default)]
struct Level {
    elements: Vec<Element>,
    bytes: usize,
}

/// Where a finished tree is.
pub(super) enum Root {
    Page(u64),
    /// The only leaf, as it follows a bucket's header.
    Inline(Bytes),
}

pub(super) struct Tree {
    levels: Vec<Level>,
    last_key: Option<Bytes>,
    has_buckets: bool,
}

const ELEMENT_BYTES: usize = page::LEAF_ELEMENT_BYTES;
const _: () = assert!(page::LEAF_ELEMENT_BYTES == page::BRANCH_ELEMENT_BYTES);
/// A branch has at least two children, however long their keys are: so that each level is smaller than the
/// one below it.
const BRANCH_ELEMENTS_MIN: usize = 2;

impl Tree {
    pub(super) fn new() -> Self {
        Self { levels: vec![Level::default()], last_key: None, has_buckets: false }
    }

    /// Adds a pair, or a bucket if `flags` says so.
    pub(super) fn push<S: PageSink>(
        &mut self,
        pages: &mut Pages<S>,
        flags: u32,
        key: Bytes,
        value: Bytes,
    ) -> Result<(), BackupError> {
        if key.is_empty() {
            return Err(BackupError::refused("bbolt has no empty keys"));
        }
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err(BackupError::refused("keys do not come in order"));
        }
        self.last_key = Some(key.clone());
        self.has_buckets |= flags & page::BUCKET_FLAG != 0;
        self.add(pages, 0, Element { key, flags, value, child: 0 })
    }

    fn add<S: PageSink>(&mut self, pages: &mut Pages<S>, level: usize, element: Element) -> Result<(), BackupError> {
        if level == self.levels.len() {
            self.levels.push(Level::default());
        }
        let bytes = ELEMENT_BYTES + element.key.len() + element.value.len();
        let elements_min = if level == 0 { 1 } else { BRANCH_ELEMENTS_MIN };
        let current = &self.levels[level];
        if current.elements.len() >= elements_min && HEADER_BYTES + current.bytes + bytes > pages.page_bytes() {
            self.write(pages, level)?;
        }
        let current = &mut self.levels[level];
        current.elements.push(element);
        current.bytes += bytes;
        Ok(())
    }

    /// Writes the unfinished page of `level` and tells the level above.
    fn write<S: PageSink>(&mut self, pages: &mut Pages<S>, level: usize) -> Result<(), BackupError> {
        let full = std::mem::take(&mut self.levels[level]);
        let Some(first) = full.elements.first().map(|element| element.key.clone()) else { return Ok(()) };
        let child = write_page(pages, level, &full)?;
        self.add(pages, level + 1, Element { key: first, flags: 0, value: Bytes::new(), child })
    }

    pub(super) fn finish<S: PageSink>(mut self, pages: &mut Pages<S>, may_inline: bool) -> Result<Root, BackupError> {
        let only = &self.levels[0];
        // bbolt's own rule for what it keeps inline.
        let small = HEADER_BYTES + only.bytes <= pages.page_bytes() / 4;
        if may_inline && self.levels.len() == 1 && small && !self.has_buckets {
            return Ok(Root::Inline(encode_page(0, 0, 0, only, HEADER_BYTES + only.bytes)?));
        }
        let mut level = 0;
        loop {
            let current = &self.levels[level];
            if level + 1 == self.levels.len() {
                let root = match &current.elements[..] {
                    [only] if level > 0 => only.child,
                    _ => write_page(pages, level, current)?,
                };
                return Ok(Root::Page(root));
            }
            self.write(pages, level)?;
            level += 1;
        }
    }
}

fn write_page<S: PageSink>(pages: &mut Pages<S>, level: usize, content: &Level) -> Result<u64, BackupError> {
    let count = (HEADER_BYTES + content.bytes).div_ceil(pages.page_bytes());
    let overflow = u32::try_from(count - 1).map_err(too_large)?;
    let page = encode_page(pages.next_id(), overflow, level, content, count * pages.page_bytes())?;
    pages.write(&page)
}

fn too_large(_: std::num::TryFromIntError) -> BackupError {
    BackupError::refused("a page would be too large")
}

/// The page as bytes, with zeros up to `length`.
fn encode_page(id: u64, overflow: u32, level: usize, content: &Level, length: usize) -> Result<Bytes, BackupError> {
    let count = u16::try_from(content.elements.len()).map_err(too_large)?;
    let mut out = BytesMut::with_capacity(length);
    let kind = if level == 0 { LEAF } else { BRANCH };
    PageHeader { id, kind, count, overflow }.encode(&mut out);
    // From an element's beginning to its key.
    let mut position = content.elements.len() * ELEMENT_BYTES;
    for element in &content.elements {
        let key_bytes = u32::try_from(element.key.len()).map_err(too_large)?;
        let at = u32::try_from(position).map_err(too_large)?;
        if level == 0 {
            out.put_u32_le(element.flags);
            out.put_u32_le(at);
            out.put_u32_le(key_bytes);
            out.put_u32_le(u32::try_from(element.value.len()).map_err(too_large)?);
        } else {
            out.put_u32_le(at);
            out.put_u32_le(key_bytes);
            out.put_u64_le(element.child);
        }
        position = position + element.key.len() + element.value.len() - ELEMENT_BYTES;
    }
    for element in &content.elements {
        out.put_slice(&element.key);
        out.put_slice(&element.value);
    }
    out.resize(length, 0);
    Ok(out.freeze())
}
