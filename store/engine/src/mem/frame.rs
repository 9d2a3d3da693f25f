//! The records of the memory engine's file: `magic, payload length, payload crc, header crc, payload`.
//! A payload is the writes of whole batches.

use bytes::{Buf, BufMut, Bytes};

use crate::{Batch, Column, EngineError, Write};

const MAGIC: u32 = 0x4b53_4d31;
pub const HEADER_BYTES: usize = 20;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const DELETE_RANGE: u8 = 2;

/// Appends the writes of `batch` to `payload`.
pub fn encode_batch(batch: &Batch, payload: &mut Vec<u8>) {
    for write in &batch.writes {
        match write {
            Write::Put { column, key, value } => encode_put(*column, key, value, payload),
            Write::Delete { column, key } => {
                payload.extend([DELETE, *column as u8]);
                encode_bytes(key, payload);
            }
            Write::DeleteRange { column, start, end } => {
                payload.extend([DELETE_RANGE, *column as u8]);
                encode_bytes(start, payload);
                encode_bytes(end, payload);
            }
        }
    }
}

pub fn encode_put(column: Column, key: &[u8], value: &[u8], payload: &mut Vec<u8>) {
    payload.extend([PUT, column as u8]);
    encode_bytes(key, payload);
    encode_bytes(value, payload);
}

fn encode_bytes(data: &[u8], payload: &mut Vec<u8>) {
    payload.put_u64_le(data.len() as u64);
    payload.extend_from_slice(data);
}

pub fn header(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut rest = &mut header[..];
    rest.put_u32_le(MAGIC);
    rest.put_u64_le(payload.len() as u64);
    rest.put_u32_le(crc32c::crc32c(payload));
    let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The payload of the frame at the front of `data` and the frame's length, or `None` if it is not whole.
pub fn parse(data: &Bytes) -> Option<(Bytes, usize)> {
    let header = data.get(..HEADER_BYTES)?;
    let mut rest = header;
    let magic = rest.get_u32_le();
    let length = usize::try_from(rest.get_u64_le()).ok()?;
    let payload_crc = rest.get_u32_le();
    if magic != MAGIC || rest.get_u32_le() != crc32c::crc32c(&header[..HEADER_BYTES - 4]) {
        return None;
    }
    let end = HEADER_BYTES.checked_add(length)?;
    if data.len() < end {
        return None;
    }
    let payload = data.slice(HEADER_BYTES..end);
    (crc32c::crc32c(&payload) == payload_crc).then_some((payload, end))
}

/// Whether a whole frame begins anywhere after the front of `data`.
pub fn any_after(data: &Bytes) -> bool {
    let magic = MAGIC.to_le_bytes();
    (1..data.len()).any(|at| data[at..].starts_with(&magic) && parse(&data.slice(at..)).is_some())
}

pub fn decode_batch(mut payload: Bytes) -> Result<Batch, EngineError> {
    let mut batch = Batch::default();
    while payload.remaining() >= 2 {
        let kind = payload.get_u8();
        let column = payload.get_u8();
        let column = *Column::ALL.get(usize::from(column)).ok_or_else(|| malformed("unknown column"))?;
        let first = decode_bytes(&mut payload)?;
        match kind {
            PUT => batch.put(column, first, decode_bytes(&mut payload)?),
            DELETE => batch.delete(column, first),
            DELETE_RANGE => batch.delete_range(column, first, decode_bytes(&mut payload)?),
            _ => return Err(malformed("unknown write")),
        }
    }
    if payload.has_remaining() {
        return Err(malformed("trailing bytes"));
    }
    Ok(batch)
}

fn decode_bytes(payload: &mut Bytes) -> Result<Bytes, EngineError> {
    if payload.remaining() < 8 {
        return Err(malformed("short length"));
    }
    match usize::try_from(payload.get_u64_le()) {
        Ok(length) if length <= payload.remaining() => Ok(payload.split_to(length)),
        _ => Err(malformed("short field")),
    }
}

fn malformed(what: &str) -> EngineError {
    EngineError::Corrupt(format!("frame: {what}"))
}
