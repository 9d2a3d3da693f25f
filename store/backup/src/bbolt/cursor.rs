use bytes::{Buf, Bytes};

use super::{
    bolt::{Bucket, Page, Start},
    page::{BRANCH_ELEMENT_BYTES, BUCKET_FLAG, HEADER_BYTES, LEAF_ELEMENT_BYTES},
};
use crate::{constants::BOLT_DEPTH_MAX, BackupError};

/// An entry of a bucket.
#[derive(Clone)]
pub struct Item {
    pub key: Bytes,
    pub value: Value,
}

#[derive(Clone)]
pub enum Value {
    Bytes(Bytes),
    Bucket(Bucket),
}

/// Walks a bucket in key order. Holds one page a level.
pub struct Cursor {
    bucket: Bucket,
    /// The way down to the next entry; `None` before the beginning.
    path: Option<Vec<(Page, usize)>>,
    last_key: Option<Bytes>,
    /// Pages that may still be read: a tree has each page once, a circle of pages does not end.
    pages_left: u64,
}

impl Cursor {
    pub(super) fn new(bucket: Bucket) -> Self {
        let pages_left = bucket.bolt.meta().pages;
        Self { bucket, path: None, last_key: None, pages_left }
    }

    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// If the tree is damaged: wrong pages, keys that do not grow, circles.
    #[allow(clippy::should_implement_trait)] // it fails, and a fallible iterator would go on afterwards
    pub fn next(&mut self) -> Result<Option<Item>, BackupError> {
        let mut path = match self.path.take() {
            Some(path) => path,
            None => vec![(self.start()?, 0)],
        };
        let found = self.advance(&mut path)?;
        self.path = Some(path);
        let Some(item) = found else { return Ok(None) };
        if self.last_key.as_ref().is_some_and(|last| *last >= item.key) {
            return Err(BackupError::damaged("keys are out of order"));
        }
        self.last_key = Some(item.key.clone());
        Ok(Some(item))
    }

    fn advance(&mut self, path: &mut Vec<(Page, usize)>) -> Result<Option<Item>, BackupError> {
        while let Some((page, at)) = path.last_mut() {
            if *at == usize::from(page.header.count) {
                path.pop();
                continue;
            }
            *at += 1;
            if page.is_leaf() {
                return leaf_item(&self.bucket, page, *at - 1).map(Some);
            }
            let child = child(page, *at - 1)?;
            if path.len() == BOLT_DEPTH_MAX {
                return Err(BackupError::damaged(format!("a tree of more than {BOLT_DEPTH_MAX} levels")));
            }
            let page = self.read(child)?;
            path.push((page, 0));
        }
        Ok(None)
    }

    pub(super) fn last(mut self) -> Result<Option<Item>, BackupError> {
        let mut page = self.start()?;
        for _ in 0..BOLT_DEPTH_MAX {
            let Some(last) = usize::from(page.header.count).checked_sub(1) else { return Ok(None) };
            if page.is_leaf() {
                return leaf_item(&self.bucket, &page, last).map(Some);
            }
            page = self.read(child(&page, last)?)?;
        }
        Err(BackupError::damaged(format!("a tree of more than {BOLT_DEPTH_MAX} levels")))
    }

    fn start(&mut self) -> Result<Page, BackupError> {
        match &self.bucket.root {
            Start::Inline(page) => Ok(page.clone()),
            Start::Page(id) => self.read(*id),
        }
    }

    fn read(&mut self, id: u64) -> Result<Page, BackupError> {
        let left = self.pages_left.checked_sub(1);
        self.pages_left = left.ok_or_else(|| BackupError::damaged("pages that lead to each other"))?;
        self.bucket.bolt.page(id)
    }
}

fn leaf_item(bucket: &Bucket, page: &Page, at: usize) -> Result<Item, BackupError> {
    let start = HEADER_BYTES + at * LEAF_ELEMENT_BYTES;
    let mut element = element(page, start)?;
    let flags = element.get_u32_le();
    let position = element.get_u32_le() as usize;
    let key_bytes = element.get_u32_le() as usize;
    let value_bytes = element.get_u32_le() as usize;
    let key = slice(page, start + position, key_bytes)?;
    let value = slice(page, start + position + key_bytes, value_bytes)?;
    let value = if flags & BUCKET_FLAG == 0 {
        Value::Bytes(value)
    } else {
        Value::Bucket(Bucket::from_value(&bucket.bolt, &value)?)
    };
    Ok(Item { key, value })
}

/// The page that element `at` of a branch leads to.
pub(super) fn child(page: &Page, at: usize) -> Result<u64, BackupError> {
    let mut element = element(page, HEADER_BYTES + at * BRANCH_ELEMENT_BYTES)?;
    element.advance(8);
    Ok(element.get_u64_le())
}

fn element(page: &Page, start: usize) -> Result<&[u8], BackupError> {
    page.bytes.get(start..start + LEAF_ELEMENT_BYTES).ok_or_else(|| outside(page))
}

fn slice(page: &Page, start: usize, length: usize) -> Result<Bytes, BackupError> {
    // Sums of three u32: no overflow of a 64-bit usize.
    if start + length > page.bytes.len() {
        return Err(outside(page));
    }
    Ok(page.bytes.slice(start..start + length))
}

fn outside(page: &Page) -> BackupError {
    BackupError::damaged(format!("an element of page {} lies outside of it", page.header.id))
}
