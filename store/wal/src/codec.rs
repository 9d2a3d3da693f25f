//! Bytes of headers, frames and records. See the crate's documentation for the format.

use bytes::{Buf, BufMut, Bytes};

use crate::LogEntry;

pub(crate) const VERSION: u16 = 1;
pub(crate) const HEADER_BYTES: usize = 32;
pub(crate) const FRAME_HEAD_BYTES: usize = 28;
/// Bytes of an entry record before its body.
const ENTRY_HEAD_BYTES: usize = 26;
const HEADER_MAGIC: &[u8; 6] = b"KSWAL\0";
pub(crate) const FRAME_MAGIC: &[u8; 4] = b"KSFR";

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;

pub(crate) fn encode_header(sequence: u64, salt: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.put_slice(HEADER_MAGIC);
    out.put_u16_le(VERSION);
    out.put_u64_le(sequence);
    out.put_u64_le(salt);
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out.put_u32_le(0);
    out
}

/// The header's sequence and salt.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(u64, u64), String> {
    let Some(mut head) = bytes.get(..HEADER_BYTES) else { return Err("the header is incomplete".into()) };
    let crc = crc32c::crc32c(&head[..24]);
    if &head[..6] != HEADER_MAGIC {
        return Err("this is not a log segment".into());
    }
    head.advance(6);
    let version = head.get_u16_le();
    let (sequence, salt) = (head.get_u64_le(), head.get_u64_le());
    if head.get_u32_le() != crc {
        return Err("the header's checksum is wrong".into());
    }
    if version != VERSION {
        return Err(format!("format version {version} is not known here (newest known: {VERSION})"));
    }
    Ok((sequence, salt))
}

/// One record, as the log's stream has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The entry, and where its body begins in the frame's payload.
    Entry {
        entry: LogEntry,
        crc: u32,
        body_at: usize,
    },
    Vote(Bytes),
    Committed(Bytes),
    Truncate(u64),
    Purge(u64, Bytes),
}

/// Appends an entry record; returns where its body begins in `out` and its checksum.
pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) -> (usize, u32) {
    let crc = crc32c::crc32c(&entry.body);
    out.put_u8(ENTRY);
    out.put_u64_le(entry.index);
    out.put_u64_le(entry.term);
    out.put_u8(entry.kind);
    put_length(out, entry.body.len());
    out.put_u32_le(crc);
    let at = out.len();
    out.put_slice(&entry.body);
    (at, crc)
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &[u8]) {
    out.put_u8(VOTE);
    put_bytes(out, vote);
}

pub(crate) fn put_committed(out: &mut Vec<u8>, committed: &[u8]) {
    out.put_u8(COMMITTED);
    put_bytes(out, committed);
}

pub(crate) fn put_truncate(out: &mut Vec<u8>, from: u64) {
    out.put_u8(TRUNCATE);
    out.put_u64_le(from);
}

pub(crate) fn put_purge(out: &mut Vec<u8>, through: u64, mark: &[u8]) {
    out.put_u8(PURGE);
    out.put_u64_le(through);
    put_bytes(out, mark);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Lengths are bounded by `ENTRY_BYTES_MAX`, which is checked before anything is queued.
fn put_length(out: &mut Vec<u8>, length: usize) {
    out.put_u32_le(u32::try_from(length).expect("bounded by ENTRY_BYTES_MAX"));
}

/// Begins a frame in `out`: room for its head. [`end_frame`] fills it in.
pub(crate) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.put_bytes(0, FRAME_HEAD_BYTES);
    at
}

pub(crate) fn end_frame(out: &mut [u8], at: usize, salt: u64, number: u64, synced: u64) {
    let length = u32::try_from(out.len() - at - FRAME_HEAD_BYTES).expect("frames are far smaller than 4 GiB");
    let crc = frame_crc(salt, length, number, synced, &out[at + FRAME_HEAD_BYTES..]);
    let mut head = &mut out[at..at + FRAME_HEAD_BYTES];
    head.put_slice(FRAME_MAGIC);
    head.put_u32_le(length);
    head.put_u64_le(number);
    head.put_u64_le(synced);
    head.put_u32_le(crc);
}

fn frame_crc(salt: u64, length: u32, number: u64, synced: u64, payload: &[u8]) -> u32 {
    let mut head = [0; 28];
    let mut out = &mut head[..];
    out.put_u64_le(salt);
    out.put_u32_le(length);
    out.put_u64_le(number);
    out.put_u64_le(synced);
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// A frame whose checksum holds.
pub(crate) struct Frame {
    pub number: u64,
    pub synced: u64,
    /// Where the payload begins in the segment.
    pub payload_at: usize,
    pub payload: Bytes,
}

impl Frame {
    pub(crate) fn end(&self) -> usize {
        self.payload_at + self.payload.len()
    }
}

/// The frame at `at`, if there is a whole and valid one.
pub(crate) fn frame_at(segment: &Bytes, at: usize, salt: u64) -> Option<Frame> {
    let payload_at = at.checked_add(FRAME_HEAD_BYTES)?;
    let mut head = segment.get(at..payload_at)?;
    if !head.starts_with(FRAME_MAGIC) {
        return None;
    }
    head.advance(4);
    let (length, number, synced, crc) = (head.get_u32_le(), head.get_u64_le(), head.get_u64_le(), head.get_u32_le());
    let end = payload_at.checked_add(usize::try_from(length).ok()?)?;
    let payload = segment.get(payload_at..end)?;
    (frame_crc(salt, length, number, synced, payload) == crc).then(|| Frame {
        number,
        synced,
        payload_at,
        payload: segment.slice(payload_at..end),
    })
}

/// The records of a frame's payload, in order.
pub(crate) fn records(payload: &Bytes) -> Result<Vec<Record>, String> {
    let mut rest = payload.clone();
    let mut out = Vec::new();
    while rest.has_remaining() {
        out.push(record(payload.len(), &mut rest)?);
    }
    Ok(out)
}

fn record(payload_bytes: usize, rest: &mut Bytes) -> Result<Record, String> {
    let tag = rest.get_u8();
    Ok(match tag {
        ENTRY => {
            need(rest, ENTRY_HEAD_BYTES - 1)?;
            let (index, term, kind) = (get_index(rest)?, rest.get_u64_le(), rest.get_u8());
            let (length, crc) = (rest.get_u32_le() as usize, rest.get_u32_le());
            need(rest, length)?;
            let body_at = payload_bytes - rest.remaining();
            Record::Entry { entry: LogEntry { index, term, kind, body: rest.split_to(length) }, crc, body_at }
        }
        VOTE => Record::Vote(get_bytes(rest)?),
        COMMITTED => Record::Committed(get_bytes(rest)?),
        TRUNCATE => {
            need(rest, 8)?;
            Record::Truncate(get_index(rest)?)
        }
        PURGE => {
            need(rest, 8)?;
            let through = get_index(rest)?;
            Record::Purge(through, get_bytes(rest)?)
        }
        other => return Err(format!("record kind {other} is not known here")),
    })
}

/// One that another can follow.
fn get_index(rest: &mut Bytes) -> Result<u64, String> {
    match rest.get_u64_le() {
        u64::MAX => Err("an index is too large".into()),
        index => Ok(index),
    }
}

fn get_bytes(rest: &mut Bytes) -> Result<Bytes, String> {
    need(rest, 4)?;
    let length = rest.get_u32_le() as usize;
    need(rest, length)?;
    Ok(rest.split_to(length))
}

fn need(rest: &Bytes, bytes: usize) -> Result<(), String> {
    if rest.remaining() < bytes {
        return Err("a record goes beyond its frame".into());
    }
    Ok(())
}
