//! Keys of the index's rows. Behind the generation, a byte says what a row is about:
//!
//! | kind | rest of the key | value |
//! |---|---|---|
//! | current | key | version of a key that exists |
//! | history | key, escaped; main, sub | version that was replaced or is a deletion |
//! | turn | main, sub | a key began (0) or ceased (its create revision) to exist there; the key |
//! | bucket | first key | how many keys exist from there up to the next bucket |
//! | attached | lease; key | nothing |
//! | moment | milliseconds of the wall clock | revision that was the newest then |
//!
//! A zero byte in an escaped key becomes `00 ff`; `00 01` ends it. So keys keep their order, and the versions of
//! one key lie together: `a` < `a 00` < `a b` become `a 00 01` < `a 00 ff 00 01` < `a b 00 01`.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{record::Revision, MvccError, RangeBounds};

const CURRENT: u8 = 0;
const HISTORY: u8 = 1;
const TURN: u8 = 2;
const BUCKET: u8 = 3;
const ATTACHED: u8 = 4;
const MOMENT: u8 = 5;

/// Generation and kind.
const HEAD_BYTES: usize = 2;
const PLACE_BYTES: usize = 12;

fn row(generation: u8, kind: u8, rest_bytes: usize) -> BytesMut {
    let mut row = BytesMut::with_capacity(HEAD_BYTES + rest_bytes);
    row.put_u8(generation);
    row.put_u8(kind);
    row
}

fn put_place(row: &mut BytesMut, at: Revision) {
    row.put_i64(at.main);
    row.put_u32(at.sub);
}

fn corrupt(what: &str) -> MvccError {
    MvccError::Corrupt(format!("index row: {what}"))
}

fn number<const N: usize>(bytes: Option<&[u8]>) -> Result<[u8; N], MvccError> {
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| corrupt("short number"))
}

pub fn current(generation: u8, key: &[u8]) -> Bytes {
    let mut row = row(generation, CURRENT, key.len());
    row.put_slice(key);
    row.freeze()
}

/// Whether a row is that of an existing key.
pub fn is_current(row: &[u8]) -> bool {
    row.get(1) == Some(&CURRENT)
}

/// The end of all rows of existing keys.
pub fn current_end(generation: u8) -> Bytes {
    row(generation, CURRENT + 1, 0).freeze()
}

/// First row and end of the rows of existing keys within `bounds`; `None` if nothing can be inside.
pub fn current_bounds(generation: u8, bounds: &RangeBounds) -> Option<(Bytes, Bytes)> {
    let (start, end) = bounds.as_map_bounds()?;
    let start = match start {
        Bound::Included(key) | Bound::Excluded(key) => current(generation, &key),
        Bound::Unbounded => current(generation, &[]),
    };
    let end = match end {
        Bound::Included(key) => [&current(generation, &key)[..], &[0]].concat().into(),
        Bound::Excluded(key) => current(generation, &key),
        Bound::Unbounded => current_end(generation),
    };
    Some((start, end))
}

/// The key in a row of kind current, in memory of its own.
pub fn current_key(row: &Bytes) -> Bytes {
    row.slice(HEAD_BYTES.min(row.len())..)
}

fn history_prefix(generation: u8, key: &[u8]) -> BytesMut {
    let mut row = row(generation, HISTORY, key.len() + 2 + PLACE_BYTES);
    let mut parts = key.split(|byte| *byte == 0);
    row.put_slice(parts.next().unwrap_or_default());
    for part in parts {
        row.put_slice(&[0, 0xff]);
        row.put_slice(part);
    }
    row.put_slice(&[0, 1]);
    row
}

pub fn history(generation: u8, key: &[u8], at: Revision) -> Bytes {
    let mut row = history_prefix(generation, key);
    put_place(&mut row, at);
    row.freeze()
}

/// First row and end of the replaced versions of `key` before `at`.
pub fn history_before(generation: u8, key: &[u8], at: Revision) -> (Bytes, Bytes) {
    (history_prefix(generation, key).freeze(), history(generation, key, at))
}

pub fn turn(generation: u8, at: Revision) -> Bytes {
    let mut row = row(generation, TURN, PLACE_BYTES);
    put_place(&mut row, at);
    row.freeze()
}

/// First row and end of the turns after main revision `main`.
pub fn turns_after(generation: u8, main: i64) -> (Bytes, Bytes) {
    let first = Revision { main: main.saturating_add(1), sub: 0 };
    (turn(generation, first), row(generation, TURN + 1, 0).freeze())
}

/// Whether a key began or ceased to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    Born {
        key: Bytes,
    },
    /// It had existed since `create`.
    Gone {
        key: Bytes,
        create: i64,
    },
}

impl Turn {
    pub fn encode(&self) -> Bytes {
        let (create, key) = match self {
            Self::Born { key } => (0, key),
            Self::Gone { key, create } => (*create, key),
        };
        let mut row = BytesMut::with_capacity(8 + key.len());
        row.put_i64(create);
        row.put_slice(key);
        row.freeze()
    }

    pub fn decode(row: &Bytes) -> Result<Self, MvccError> {
        let create = i64::from_be_bytes(number(row.get(..8))?);
        let key = row.slice(8..);
        Ok(if create == 0 { Self::Born { key } } else { Self::Gone { key, create } })
    }

    pub fn key(&self) -> &Bytes {
        match self {
            Self::Born { key } | Self::Gone { key, .. } => key,
        }
    }
}

pub fn bucket(generation: u8, first_key: &[u8]) -> Bytes {
    let mut row = row(generation, BUCKET, first_key.len());
    row.put_slice(first_key);
    row.freeze()
}

/// First row and end of all buckets.
pub fn buckets(generation: u8) -> (Bytes, Bytes) {
    (bucket(generation, &[]), row(generation, BUCKET + 1, 0).freeze())
}

pub fn parse_bucket(key: &Bytes, value: &[u8]) -> Result<(Bytes, u32), MvccError> {
    let keys = u32::from_be_bytes(number(Some(value))?);
    Ok((current_key(key), keys))
}

pub fn attached(generation: u8, lease: i64, key: &[u8]) -> Bytes {
    let mut row = row(generation, ATTACHED, 8 + key.len());
    row.put_i64(lease);
    row.put_slice(key);
    row.freeze()
}

/// First row and end of the keys attached to `lease`.
pub fn attached_to(generation: u8, lease: i64) -> (Bytes, Bytes) {
    let end = match lease.cast_unsigned().checked_add(1) {
        Some(next) => attached(generation, next.cast_signed(), &[]),
        None => row(generation, ATTACHED + 1, 0).freeze(),
    };
    (attached(generation, lease, &[]), end)
}

/// The key in a row of kind attached.
pub fn attached_key(row: &Bytes) -> Bytes {
    row.slice((HEAD_BYTES + 8).min(row.len())..)
}

pub fn moment(generation: u8, unix_ms: i64) -> Bytes {
    let mut row = row(generation, MOMENT, 8);
    row.put_i64(unix_ms);
    row.freeze()
}

/// First row of the moments, and the end of those up to and including `unix_ms`.
pub fn moments_upto(generation: u8, unix_ms: i64) -> (Bytes, Bytes) {
    (moment(generation, 0), moment(generation, unix_ms.saturating_add(1)))
}

pub fn parse_moment(key: &[u8], value: &[u8]) -> Result<(i64, i64), MvccError> {
    let unix_ms = i64::from_be_bytes(number(key.get(HEAD_BYTES..))?);
    Ok((unix_ms, i64::from_be_bytes(number(Some(value))?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(vec![0u8, 1, 2, 0xff]), 0..4)
    }

    proptest! {
        #[test]
        fn history_rows_lie_by_key_then_revision(a in key(), b in key(), i in 0..3i64, j in 0..3u32) {
            let (at, other) = (Revision { main: i, sub: j }, Revision { main: 1, sub: 1 });
            let order = (&a, at).cmp(&(&b, other));
            prop_assert_eq!(history(0, &a, at).cmp(&history(0, &b, other)), order);
            let (first, end) = history_before(0, &a, at);
            let row = history(0, &b, other);
            prop_assert_eq!(first <= row && row < end, a == b && other < at);
        }

        #[test]
        fn turns_come_back(key in key(), create in 0..5i64) {
            let key = Bytes::from(key);
            let turn = if create == 0 { Turn::Born { key } } else { Turn::Gone { key, create } };
            prop_assert_eq!(Turn::decode(&turn.encode()).unwrap(), turn);
        }

        #[test]
        fn attached_rows_lie_by_lease(a in any::<i64>(), b in any::<i64>(), key in key()) {
            let (first, end) = attached_to(1, a);
            let row = attached(1, b, &key);
            prop_assert_eq!(first <= row && row < end, a == b);
            prop_assert_eq!(attached_key(&row), key);
        }
    }

    #[test]
    fn damaged_rows_are_refused() {
        assert!(Turn::decode(&Bytes::from_static(b"short")).is_err());
        assert!(parse_bucket(&Bytes::from_static(&[0, 3]), b"abc").is_err());
        assert!(parse_moment(&[0, 5, 1], &[0; 8]).is_err());
    }
}
