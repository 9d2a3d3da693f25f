//! Resource quantities: `100m`, `1.5Gi`, `2e3`.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::constants::QUANTITY_BYTES_MAX;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `n u m` none `k M G T P E`.
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`, `e-6`.
    DecimalExponent,
}

/// An exact number of nanounits. Values beyond 2^63-1 units are capped, finer ones rounded away from zero, as
/// the API does.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Number,
}

const NANO: i128 = 1_000_000_000;
const CAP: i128 = i64::MAX as i128 * NANO;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// From 10^-9 in steps of 10^3.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

impl Quantity {
    pub fn from_units(units: i64) -> Self {
        Self { nano: i128::from(units) * NANO, format: Format::DecimalSi }
    }

    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// An amount of bytes, shown with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nano: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// Reads a quantity from JSON: a string or a number.
    pub fn from_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => Self::parse(text.trim()),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => Err(QuantityError::Format),
        }
    }

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() || text.len() > QUANTITY_BYTES_MAX {
            return Err(QuantityError::Format);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Format);
        }
        let (factor, format) = parse_suffix(suffix)?;
        let nano = scaled(whole, fraction, factor);
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }

    /// Thousandths, rounded up.
    pub fn milli(&self) -> i64 {
        self.scaled_up(NANO / 1000)
    }

    /// Whole units, rounded up.
    pub fn units(&self) -> i64 {
        self.scaled_up(NANO)
    }

    fn scaled_up(&self, unit: i128) -> i64 {
        let floor = self.nano.div_euclid(unit);
        let up = if self.nano.rem_euclid(unit) != 0 { floor + 1 } else { floor };
        i64::try_from(up).unwrap_or(if up > 0 { i64::MAX } else { i64::MIN })
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    // As a method, not an operator: which format the result keeps depends on the order.
    #[allow(clippy::should_implement_trait)]
    /// The sum; it keeps this quantity's format unless this one is zero.
    #[must_use]
    pub fn add(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: (self.nano + other.nano).clamp(-CAP, CAP), format }
    }

    /// The difference, in the format of the sum.
    #[allow(clippy::should_implement_trait)]
    #[must_use]
    pub fn sub(self, other: Self) -> Self {
        self.add(Self { nano: -other.nano, format: other.format })
    }

    pub fn format(&self) -> Format {
        self.format
    }
}

/// One unit of the suffix in nanounits: multiplier times 10^power; a multiplier of -1 means 10^-power.
type Factor = (i128, u32);

fn parse_suffix(suffix: &str) -> Result<(Factor, Format), QuantityError> {
    if let Some(at) = DECIMAL.iter().position(|s| *s == suffix) {
        return Ok(((1, at as u32 * 3), Format::DecimalSi));
    }
    if let Some(at) = BINARY.iter().position(|s| *s == suffix) {
        return Ok(((1_i128 << (10 * at), 9), Format::BinarySi));
    }
    let Some(exponent) = suffix.strip_prefix(['e', 'E']) else {
        return Err(if suffix.bytes().all(|b| b"eEinumkKMGTP+-0123456789".contains(&b)) {
            QuantityError::Suffix
        } else {
            QuantityError::Format
        });
    };
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    // Beyond these every number is capped to the largest, or rounds to one nanounit.
    let power = exponent.clamp(-400, 400) + 9;
    Ok(match u32::try_from(power) {
        Ok(power) => ((1, power), Format::DecimalExponent),
        Err(_) => ((-1, power.unsigned_abs()), Format::DecimalExponent),
    })
}

/// Digits of a fraction that are looked at: enough for one nanounit of every suffix; the rest only rounds up.
const FRACTION_DIGITS_MAX: usize = 18;

/// `whole.fraction` times the factor, in nanounits: rounded up, capped.
fn scaled(whole: &str, fraction: &str, (multiplier, power): Factor) -> i128 {
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let mut inexact = fraction[kept.len()..].bytes().any(|b| b != b'0');
    let kept = kept.trim_end_matches('0');
    let (whole, part) = (digits(whole), digits(kept));
    let shift = power as i32 * if multiplier < 0 { -1 } else { 1 };
    let multiplier = multiplier.abs();
    let (whole, whole_inexact) = shifted(whole.saturating_mul(multiplier), shift);
    let (part, part_inexact) = shifted(part.saturating_mul(multiplier), shift - kept.len() as i32);
    inexact |= whole_inexact | part_inexact;
    whole.saturating_add(part).saturating_add(i128::from(inexact)).min(CAP)
}

fn digits(text: &str) -> i128 {
    text.bytes().fold(0_i128, |value, b| value.saturating_mul(10).saturating_add(i128::from(b - b'0')))
}

/// `value` times 10^`shift`, rounded down, and whether something was lost.
fn shifted(mut value: i128, shift: i32) -> (i128, bool) {
    let mut inexact = false;
    for _ in 0..shift.unsigned_abs() {
        if value == 0 {
            break;
        }
        if shift > 0 {
            value = value.saturating_mul(10);
        } else {
            inexact |= value % 10 != 0;
            value /= 10;
        }
    }
    (value, inexact)
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that needs none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let binary = self.format == Format::BinarySi && self.nano.abs() >= 1024 * NANO && self.nano % NANO == 0;
        if binary {
            let mut number = self.nano / NANO;
            let mut at = 0;
            while number % 1024 == 0 && at + 1 < BINARY.len() {
                number /= 1024;
                at += 1;
            }
            return write!(f, "{number}{}", BINARY[at]);
        }
        let mut number = self.nano;
        let mut at = 0;
        while number % 1000 == 0 && at + 1 < DECIMAL.len() {
            number /= 1000;
            at += 1;
        }
        if self.format != Format::DecimalExponent {
            return write!(f, "{number}{}", DECIMAL[at]);
        }
        match at as i32 * 3 - 9 {
            0 => write!(f, "{number}"),
            exponent => write!(f, "{number}e{exponent}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_texts() {
        let cases = [
            ("0", "0"),
            ("0Ki", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("512", "512"),
            ("0.1Ki", "102400m"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("1E3", "1e3"),
            ("100e-3", "100e-3"),
            ("-1500m", "-1500m"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("99999999999999999999", "9223372036854775807"),
            ("123456789Ei", "9223372036854775807"),
            ("1e400", "9223372036854775807"),
            ("1024", "1024"),
            ("2000Ki", "2000Ki"),
            ("1.5000000000000000000000000000001", "1500000001n"),
            ("1.0000000000000000000000000000000", "1"),
            ("1.25Ei", "1280Pi"),
            ("25e-1", "2500e-3"),
        ];
        for (text, canonical) in cases {
            assert_eq!(Quantity::parse(text).map(|q| q.to_string()), Ok(canonical.to_owned()), "{text}");
        }
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in ["", "+", "-", ".", "1..", "1.2.3", "x", "1x", "1 ", " 1", "1KI", "1mm", "1e", "1ei", "ä"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
        assert_eq!(Quantity::parse("1mm"), Err(QuantityError::Suffix));
        assert!(Quantity::parse(&"1".repeat(QUANTITY_BYTES_MAX)).is_ok());
        assert!(Quantity::parse(&"1".repeat(QUANTITY_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn numbers_round_up() {
        assert_eq!(Quantity::parse("1n").unwrap().milli(), 1);
        assert_eq!(Quantity::parse("1500m").unwrap().units(), 2);
        assert_eq!(Quantity::parse("-1500m").unwrap().units(), -1);
        assert!(Quantity::parse("1Ki").unwrap() > Quantity::parse("1k").unwrap());
        assert_eq!(Quantity::parse("1").unwrap(), Quantity::parse("1000m").unwrap());
    }

    proptest! {
        #[test]
        fn the_canonical_text_is_a_fixed_point(text in "[+-]?[0-9]{1,12}(\\.[0-9]{0,12})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,2})?") {
            let quantity = Quantity::parse(&text).unwrap();
            let again = Quantity::parse(&quantity.to_string()).unwrap();
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(quantity.to_string(), again.to_string());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = Quantity::parse(&text);
        }
    }
}
