//! The protobuf wire format, as far as Kubernetes uses it.

use crate::status::ApiResult;
use crate::status::ApiStatus;

/// A field as it is read: its number and raw value.
pub(super) struct Item<'a> {
    pub number: u32,
    pub value: Raw<'a>,
}

pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

fn broken(what: &str) -> ApiStatus {
    ApiStatus::bad_request(format!("proto: {what}"))
}

/// Reads the fields of one message in turn.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn varint(&mut self) -> ApiResult<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (first, rest) = self.rest.split_first().ok_or_else(|| broken("unexpected EOF"))?;
            self.rest = rest;
            if shift == 63 && *first > 1 {
                break;
            }
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken("integer overflow"))
    }

    fn take(&mut self, bytes: usize) -> ApiResult<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or_else(|| broken("unexpected EOF"))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next field; `None` at the end.
    pub fn next(&mut self) -> ApiResult<Option<Item<'a>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| broken("illegal tag"))?;
        if number == 0 {
            return Err(broken("illegal tag 0"));
        }
        let value = match tag & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => {
                let mut word = [0; 8];
                word.copy_from_slice(self.take(8)?);
                Raw::Fixed64(u64::from_le_bytes(word))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| broken("unexpected EOF"))?;
                Raw::Bytes(self.take(length)?)
            }
            5 => {
                let mut word = [0; 4];
                word.copy_from_slice(self.take(4)?);
                Raw::Fixed64(u64::from(u32::from_le_bytes(word)))
            }
            other => return Err(broken(&format!("wrong wireType = {other} for field {number}"))),
        };
        Ok(Some(Item { number, value }))
    }
}

impl<'a> Raw<'a> {
    pub fn bytes(&self) -> ApiResult<&'a [u8]> {
        match self {
            Raw::Bytes(bytes) => Ok(bytes),
            _ => Err(broken("wrong wireType for a length-delimited field")),
        }
    }

    pub fn text(&self) -> ApiResult<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| broken("string field contains invalid UTF-8"))
    }

    pub fn varint(&self) -> ApiResult<u64> {
        match self {
            Raw::Varint(value) => Ok(*value),
            _ => Err(broken("wrong wireType for an integer field")),
        }
    }

    pub fn int(&self) -> ApiResult<i64> {
        Ok(self.varint()? as i64)
    }

    pub fn double(&self) -> ApiResult<f64> {
        match self {
            Raw::Fixed64(bits) => Ok(f64::from_bits(*bits)),
            _ => Err(broken("wrong wireType for a double field")),
        }
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value as u64);
}

pub(super) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, (u64::from(number) << 3) | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, (u64::from(number) << 3) | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive() {
        for value in [0, 1, 127, 128, -1, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_int(&mut out, 3, value);
            let item = Reader::new(&out).next().unwrap().unwrap();
            assert_eq!((item.number, item.value.int().unwrap()), (3, value));
        }
    }

    #[test]
    fn broken_input_is_an_error() {
        for bytes in [
            &[0x08][..],
            &[0x0a, 5, 1],
            &[0xff; 12],
            &[0x00, 1],
            &[0x0b],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert!(Reader::new(bytes).next().is_err(), "{bytes:?}");
        }
    }
}
