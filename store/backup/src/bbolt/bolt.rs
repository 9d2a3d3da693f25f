use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use keelstone_env::DiskFile;

use super::{
    cursor::{Cursor, Item, Value},
    page::{Meta, PageHeader, BRANCH, BUCKET_HEADER_BYTES, HEADER_BYTES, LEAF},
};
use crate::{constants::BOLT_PAGE_READ_BYTES_MAX, BackupError};

/// An open bbolt file. Reads a page at a time; whatever the bytes are, it neither panics nor reads more than
/// [`BOLT_PAGE_READ_BYTES_MAX`] at once.
#[derive(Clone)]
pub struct Bolt {
    file: Arc<dyn DiskFile>,
    meta: Meta,
}

/// A bucket in a file. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    pub(super) bolt: Bolt,
    pub(super) root: Start,
}

/// Where a bucket's tree begins.
#[derive(Clone)]
pub(super) enum Start {
    Page(u64),
    Inline(Page),
}

/// A page with its overflow.
#[derive(Clone)]
pub(super) struct Page {
    pub header: PageHeader,
    /// All of it, the header too.
    pub bytes: Bytes,
}

impl Page {
    pub fn is_leaf(&self) -> bool {
        self.header.kind == LEAF
    }
}

impl Bolt {
    /// Opens the file by the newer of its metas that is whole. `length` is that of the database, which a
    /// snapshot's checksum may follow.
    ///
    /// # Errors
    /// If neither meta can be read, or the file is shorter than it says.
    pub fn open(file: Arc<dyn DiskFile>, length: u64) -> Result<Self, BackupError> {
        let meta = find_meta(&*file, length)?;
        let ends = meta.pages.checked_mul(u64::from(meta.page_bytes));
        if ends.is_none_or(|ends| ends > length) {
            let pages = meta.pages;
            return Err(BackupError::damaged(format!("the file has {length} bytes, too few for its {pages} pages")));
        }
        Ok(Self { file, meta })
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The size of a page.
    pub fn page_bytes(&self) -> u64 {
        u64::from(self.meta.page_bytes)
    }

    /// The root bucket; it holds buckets only.
    pub fn root(&self) -> Bucket {
        Bucket { bolt: self.clone(), root: Start::Page(self.meta.root) }
    }

    /// Reads page `id` with its overflow.
    pub(super) fn page(&self, id: u64) -> Result<Page, BackupError> {
        let header = self.page_header(id)?;
        if header.kind != LEAF && header.kind != BRANCH {
            return Err(BackupError::damaged(format!("page {id} is of kind {:#x}", header.kind)));
        }
        self.page_body(id, header)
    }

    pub(super) fn page_header(&self, id: u64) -> Result<PageHeader, BackupError> {
        if id < 2 || id >= self.meta.pages {
            return Err(BackupError::damaged(format!("a reference to page {id} of {}", self.meta.pages)));
        }
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, id * u64::from(self.meta.page_bytes))?;
        let header = PageHeader::decode(&header).ok_or_else(|| BackupError::damaged("a page header"))?;
        if header.id != id {
            return Err(BackupError::damaged(format!("page {id} says that it is page {}", header.id)));
        }
        if u64::from(header.overflow) >= self.meta.pages - id {
            return Err(BackupError::damaged(format!("page {id} reaches beyond the end of the file")));
        }
        Ok(header)
    }

    pub(super) fn page_body(&self, id: u64, header: PageHeader) -> Result<Page, BackupError> {
        let page_bytes = u64::from(self.meta.page_bytes);
        let length = (u64::from(header.overflow) + 1) * page_bytes;
        if length > BOLT_PAGE_READ_BYTES_MAX {
            return Err(BackupError::damaged(format!("page {id} has {length} bytes")));
        }
        let mut bytes = BytesMut::zeroed(usize::try_from(length).map_err(|_| BackupError::damaged("a page"))?);
        self.file.read_exact_at(&mut bytes, id * page_bytes)?;
        Ok(Page { header, bytes: bytes.freeze() })
    }
}

/// The whole meta with the higher transaction.
fn find_meta(file: &dyn DiskFile, length: u64) -> Result<Meta, BackupError> {
    let read = |offset: u64| {
        let mut page = [0; 128];
        if offset + page.len() as u64 > length {
            return Err(BackupError::damaged("the file is too short for a bbolt file"));
        }
        file.read_exact_at(&mut page, offset)?;
        Meta::decode_page(&page)
    };
    match read(0) {
        Ok(first) => match read(u64::from(first.page_bytes)) {
            Ok(second) if second.transaction > first.transaction && second.page_bytes == first.page_bytes => Ok(second),
            _ => Ok(first),
        },
        // The second one lies behind a page of unknown size.
        Err(error) => (9..=16).find_map(|shift| read(1 << shift).ok()).ok_or(error),
    }
}

impl Bucket {
    /// All pairs and buckets, in key order.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.clone())
    }

    /// The bucket of that name, if there is one.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, BackupError> {
        let mut cursor = self.cursor();
        while let Some(item) = cursor.next()? {
            if let (true, Value::Bucket(bucket)) = (item.key == name, item.value) {
                return Ok(Some(bucket));
            }
        }
        Ok(None)
    }

    /// The value of a key, if there is one.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackupError> {
        let mut cursor = self.cursor();
        while let Some(item) = cursor.next()? {
            if let (true, Value::Bytes(value)) = (item.key == key, item.value) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The last pair or bucket, found without reading the others.
    pub fn last(&self) -> Result<Option<Item>, BackupError> {
        Cursor::new(self.clone()).last()
    }

    /// The bucket that a leaf's value describes.
    pub(super) fn from_value(bolt: &Bolt, value: &Bytes) -> Result<Self, BackupError> {
        if value.len() < BUCKET_HEADER_BYTES {
            return Err(BackupError::damaged(format!("a bucket of {} bytes", value.len())));
        }
        let root = (&value[..8]).get_u64_le();
        if root != 0 {
            return Ok(Self { bolt: bolt.clone(), root: Start::Page(root) });
        }
        let bytes = value.slice(BUCKET_HEADER_BYTES..);
        match PageHeader::decode(&bytes) {
            Some(header) if header.kind == LEAF => {
                Ok(Self { bolt: bolt.clone(), root: Start::Inline(Page { header, bytes }) })
            }
            _ => Err(BackupError::damaged("an inline bucket is no leaf")),
        }
    }
}
