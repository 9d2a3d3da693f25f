use super::{
    bolt::{Bolt, Bucket, Start},
    cursor::{child, Value},
    page::{FREELIST, NO_FREELIST},
};
use crate::{
    constants::{BOLT_DEPTH_MAX, BOLT_NESTING_MAX},
    BackupError,
};

/// What [`check`] counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub buckets: u64,
    pub pairs: u64,
    pub pages: u64,
}

/// Reads the whole file: no page belongs to two things, or to none if the
/// file has a freelist; keys are in order.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(bolt: &Bolt) -> Result<Checked, BackupError> {
    let mut walk = Walk { bolt, seen: Seen::new(bolt.meta().pages)?, checked: Checked::default() };
    walk.seen.mark(0, 0)?;
    walk.seen.mark(1, 0)?;
    // etcd does not write its freelist: what belongs to nothing is free then.
    let has_freelist = bolt.meta().freelist != NO_FREELIST;
    if has_freelist {
        walk.freelist()?;
    }
    walk.bucket(&bolt.root(), 0)?;
    if let Some(lost) = walk.seen.first_unseen().filter(|_| has_freelist) {
        return Err(BackupError::damaged(format!("page {lost} belongs to nothing")));
    }
    walk.checked.pages = bolt.meta().pages;
    Ok(walk.checked)
}

struct Walk<'a> {
    bolt: &'a Bolt,
    seen: Seen,
    checked: Checked,
}

impl Walk<'_> {
    fn freelist(&mut self) -> Result<(), BackupError> {
        let id = self.bolt.meta().freelist;
        let header = self.bolt.page_header(id)?;
        if header.kind != FREELIST {
            return Err(BackupError::damaged(format!("page {id} is no freelist")));
        }
        self.seen.mark(id, header.overflow)?;
        let page = self.bolt.page_body(id, header)?;
        let mut numbers = page.bytes[super::page::HEADER_BYTES..].chunks_exact(8).map(|bytes| {
            let mut number = [0; 8];
            number.copy_from_slice(bytes);
            u64::from_le_bytes(number)
        });
        // A count that does not fit stands in front.
        let count = match header.count {
            u16::MAX => numbers.next().unwrap_or(0),
            count => u64::from(count),
        };
        for read in 0..count {
            match numbers.next() {
                Some(free) => self.seen.mark(free, 0)?,
                None => return Err(BackupError::damaged(format!("the freelist has {read} pages instead of {count}"))),
            }
        }
        Ok(())
    }

    fn bucket(&mut self, bucket: &Bucket, nesting: usize) -> Result<(), BackupError> {
        if nesting > BOLT_NESTING_MAX {
            return Err(BackupError::damaged(format!("more than {BOLT_NESTING_MAX} buckets in each other")));
        }
        if let Start::Page(root) = bucket.root {
            self.pages(root, 0)?;
        }
        let mut cursor = bucket.cursor();
        while let Some(item) = cursor.next()? {
            match item.value {
                Value::Bytes(_) => self.checked.pairs += 1,
                Value::Bucket(inner) => {
                    self.checked.buckets += 1;
                    self.bucket(&inner, nesting + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Marks a tree's pages.
    fn pages(&mut self, id: u64, depth: usize) -> Result<(), BackupError> {
        if depth == BOLT_DEPTH_MAX {
            return Err(BackupError::damaged(format!("a tree of more than {BOLT_DEPTH_MAX} levels")));
        }
        let page = self.bolt.page(id)?;
        self.seen.mark(id, page.header.overflow)?;
        if !page.is_leaf() {
            for at in 0..usize::from(page.header.count) {
                self.pages(child(&page, at)?, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// One bit a page.
struct Seen {
    bits: Vec<u64>,
    pages: u64,
}

impl Seen {
    fn new(pages: u64) -> Result<Self, BackupError> {
        // Bounded by the file's length, which was compared with the number of pages.
        let words = usize::try_from(pages.div_ceil(64)).map_err(|_| BackupError::damaged("too many pages"))?;
        Ok(Self { bits: vec![0; words], pages })
    }

    fn mark(&mut self, id: u64, overflow: u32) -> Result<(), BackupError> {
        for page in id..=id.saturating_add(u64::from(overflow)) {
            if page >= self.pages {
                return Err(BackupError::damaged(format!("a reference to page {page} of {}", self.pages)));
            }
            let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
            if self.bits[word] & bit != 0 {
                return Err(BackupError::damaged(format!("page {page} belongs to two things")));
            }
            self.bits[word] |= bit;
        }
        Ok(())
    }

    fn first_unseen(&self) -> Option<u64> {
        (0..self.pages).find(|page| self.bits[(page / 64) as usize] & (1 << (page % 64)) == 0)
    }
}
