//! Pages and metas as bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::BackupError;

pub const HEADER_BYTES: usize = 16;
pub const LEAF_ELEMENT_BYTES: usize = 16;
pub const BRANCH_ELEMENT_BYTES: usize = 16;
pub const BUCKET_HEADER_BYTES: usize = 16;
const META_BYTES: usize = 64;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

pub const BRANCH: u16 = 0x01;
pub const LEAF: u16 = 0x02;
pub const META: u16 = 0x04;
pub const FREELIST: u16 = 0x10;

/// Flag of a leaf's element whose value is a bucket.
pub const BUCKET_FLAG: u32 = 0x01;
/// The freelist's page when there is none in the file.
pub const NO_FREELIST: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    pub id: u64,
    pub kind: u16,
    pub count: u16,
    pub overflow: u32,
}

impl PageHeader {
    pub fn encode(self, out: &mut impl BufMut) {
        out.put_u64_le(self.id);
        out.put_u16_le(self.kind);
        out.put_u16_le(self.count);
        out.put_u32_le(self.overflow);
    }

    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let id = bytes.get_u64_le();
        let kind = bytes.get_u16_le();
        let count = bytes.get_u16_le();
        Some(Self { id, kind, count, overflow: bytes.get_u32_le() })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub page_bytes: u32,
    pub root: u64,
    pub sequence: u64,
    pub freelist: u64,
    /// The first page id that was never used.
    pub pages: u64,
    pub transaction: u64,
}

impl Meta {
    /// The whole meta page `id`.
    pub fn encode_page(&self, id: u64) -> Bytes {
        let page_bytes = self.page_bytes as usize;
        let mut page = BytesMut::with_capacity(page_bytes);
        PageHeader { id, kind: META, count: 0, overflow: 0 }.encode(&mut page);
        page.put_u32_le(MAGIC);
        page.put_u32_le(VERSION);
        page.put_u32_le(self.page_bytes);
        page.put_u32_le(0);
        page.put_u64_le(self.root);
        page.put_u64_le(self.sequence);
        page.put_u64_le(self.freelist);
        page.put_u64_le(self.pages);
        page.put_u64_le(self.transaction);
        let sum = fnv1a(&page[HEADER_BYTES..]);
        page.put_u64_le(sum);
        page.resize(page_bytes, 0);
        page.freeze()
    }

    /// Reads a meta from the beginning of its page.
    pub fn decode_page(page: &[u8]) -> Result<Self, BackupError> {
        let Some(mut body) = page.get(HEADER_BYTES..HEADER_BYTES + META_BYTES) else {
            return Err(BackupError::damaged("the file is too short for a meta page"));
        };
        let sum = fnv1a(&body[..META_BYTES - 8]);
        if body.get_u32_le() != MAGIC {
            return Err(BackupError::damaged("no bbolt file: the magic number is missing"));
        }
        let version = body.get_u32_le();
        let page_bytes = body.get_u32_le();
        let _flags = body.get_u32_le();
        let (root, sequence) = (body.get_u64_le(), body.get_u64_le());
        let (freelist, pages, transaction) = (body.get_u64_le(), body.get_u64_le(), body.get_u64_le());
        if body.get_u64_le() != sum {
            return Err(BackupError::damaged("the checksum of a meta page does not match"));
        }
        if version != VERSION {
            return Err(BackupError::Refused(format!("bbolt format version {version} is not known")));
        }
        if !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
            return Err(BackupError::damaged(format!("a page size of {page_bytes} bytes")));
        }
        Ok(Self { page_bytes, root, sequence, freelist, pages, transaction })
    }
}

/// A bucket as a leaf's value, without an inline page.
pub fn bucket_value(root: u64, sequence: u64) -> Bytes {
    let mut value = BytesMut::with_capacity(BUCKET_HEADER_BYTES);
    value.put_u64_le(root);
    value.put_u64_le(sequence);
    value.freeze()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_meta_is_read_back_and_every_flipped_byte_is_noticed() {
        let meta = Meta { page_bytes: 4096, root: 3, sequence: 0, freelist: 2, pages: 4, transaction: 1 };
        let page = meta.encode_page(1);
        assert_eq!(Meta::decode_page(&page).unwrap(), meta);
        for at in HEADER_BYTES..HEADER_BYTES + META_BYTES {
            let mut bad = page.to_vec();
            bad[at] ^= 0x10;
            assert!(Meta::decode_page(&bad).is_err(), "byte {at}");
        }
    }
}
