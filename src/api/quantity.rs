//! Amounts of resources: `apimachinery/pkg/api/resource.Quantity`.
//!
//! Amounts are kept exact to 10⁻⁹ in 128 bits, which spans upstream's range with room for sums.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix is none of the known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// It is too large to be kept.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

/// How a quantity was written, which decides its canonical form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `12Mi`
    BinarySi,
    /// `12e6`
    DecimalExponent,
    /// `12M`
    #[default]
    DecimalSi,
}

/// 10⁻⁹ of a unit is the least that is kept.
const NANO: i128 = 1_000_000_000;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// From 10⁻⁹ upwards by thousands.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// An amount, exact to 10⁻⁹. Ordered and compared by its value, whatever its format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Whole units, as in bytes or cores.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANO, format }
    }

    /// Thousandths, as in CPU.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Whole units, rounded up; saturates.
    pub fn to_units(self) -> i64 {
        saturate(round_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up; saturates.
    pub fn to_millis(self) -> i64 {
        saturate(round_up(self.nanos, NANO / 1000))
    }

    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Rounded up to thousandths, which is the least that an amount of a resource may have.
    #[must_use]
    pub fn rounded_to_millis(self) -> Self {
        let milli = NANO / 1000;
        Self { nanos: round_up(self.nanos, milli).saturating_mul(milli), format: self.format }
    }

    /// How it was written.
    pub fn format(self) -> Format {
        self.format
    }

    /// The sum, in this one's format unless it is zero; saturates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// The difference; saturates.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, format: other.format })
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }
}

/// Divides, away from zero: whoever asks for a little gets a little.
fn round_up(n: i128, by: i128) -> i128 {
    let (quotient, rest) = (n / by, n % by);
    if rest == 0 { quotient } else { quotient + n.signum() }
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

/// What a suffix multiplies by: a power of ten, or of 1024.
enum Scale {
    Ten(i32, Format),
    Two(u32),
}

fn scale(suffix: &str) -> Result<Scale, Error> {
    if let Some(at) = DECIMAL.iter().position(|s| *s == suffix) {
        return Ok(Scale::Ten(at as i32 * 3 - 9, Format::DecimalSi));
    }
    if let Some(at) = BINARY.iter().position(|s| *s == suffix) {
        return Ok(Scale::Two(at as u32 * 10));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(Error::Suffix)?;
    let exponent = exponent.parse().map_err(|_| Error::Suffix)?;
    Ok(Scale::Ten(exponent, Format::DecimalExponent))
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (sign, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => (1, text),
        };
        let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits_of_exponent = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
        let exponent = digits_of_exponent.strip_prefix(['-', '+']).unwrap_or(digits_of_exponent);
        if number.is_empty()
            || fraction.contains('.')
            || (whole.is_empty() && fraction.is_empty())
            || !exponent.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(Error::Format);
        }
        let scale = scale(suffix)?;
        let digits = [whole, fraction].concat();
        let digits = digits.trim_start_matches('0');
        let places = fraction.len() as i32;
        let (magnitude, format) = match scale {
            Scale::Ten(exponent, format) => (decimal(digits, exponent.saturating_sub(places))?, format),
            Scale::Two(bits) => binary(digits, places, bits)?,
        };
        Ok(Self { nanos: sign * magnitude, format })
    }
}

/// `digits` times ten to the `exponent`, in nanos, rounded up.
fn decimal(digits: &str, exponent: i32) -> Result<i128, Error> {
    if digits.is_empty() {
        return Ok(0);
    }
    let exponent = exponent.saturating_add(9);
    if exponent < 0 {
        let cut = digits.len().saturating_sub(exponent.unsigned_abs() as usize);
        let (kept, lost) = digits.split_at(cut);
        let kept: i128 = if kept.is_empty() { 0 } else { kept.parse().map_err(|_| Error::Numeric)? };
        return Ok(kept + i128::from(lost.bytes().any(|b| b != b'0')));
    }
    let value: i128 = digits.parse().map_err(|_| Error::Numeric)?;
    let factor = 10_i128.checked_pow(exponent as u32).ok_or(Error::Numeric)?;
    value.checked_mul(factor).ok_or(Error::Numeric)
}

/// `digits` with so many decimal places times two to the `bits`. Capped at the greatest 64-bit number; below one
/// it is decimal.
fn binary(digits: &str, places: i32, bits: u32) -> Result<(i128, Format), Error> {
    let cap = i128::from(i64::MAX) * NANO;
    if digits.is_empty() {
        return Ok((0, Format::BinarySi));
    }
    let nanos = match decimal(digits, -places).ok().and_then(|n| n.checked_mul(1 << bits)) {
        // More than nine places were rounded before they were multiplied; such precision nobody writes.
        Some(nanos) => nanos.min(cap),
        None => cap,
    };
    let format = if nanos < NANO { Format::DecimalSi } else { Format::BinarySi };
    Ok((nanos, format))
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the greatest suffix that keeps the amount exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        let units = self.nanos / NANO;
        if self.format == Format::BinarySi && whole && units.abs() >= 1024 {
            let (mut n, mut suffix) = (units, 0);
            while n % 1024 == 0 && suffix + 1 < BINARY.len() {
                n /= 1024;
                suffix += 1;
            }
            return write!(f, "{n}{}", BINARY[suffix]);
        }
        let (mut n, mut step) = (self.nanos, 0);
        while n % 1000 == 0 && (step + 1 < DECIMAL.len() || self.format == Format::DecimalExponent) {
            n /= 1000;
            step += 1;
        }
        match (self.format, step as i32 * 3 - 9) {
            (Format::DecimalExponent, 0) => write!(f, "{n}"),
            (Format::DecimalExponent, exponent) => write!(f, "{n}e{exponent}"),
            _ => write!(f, "{n}{}", DECIMAL[step]),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
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
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn canonical_forms_are_upstreams() {
        let table = [
            ("0", "0"),
            ("0.0Mi", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("-1", "-1"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1024", "1024"),
            ("1000", "1k"),
            ("1500000", "1500k"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("512Ki", "512Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("1.1Mi", "1153433600m"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1500e3", "1500e3"),
            ("1e9", "1e9"),
            ("10e-3", "10e-3"),
            ("1E", "1E"),
            ("1.", "1"),
            (".5", "500m"),
            ("0.1n", "1n"),
            ("1.0000000001", "1000000001n"),
            ("12345678901234567890", "12345678901234567890"),
            ("8Ei", "9223372036854775807"),
            ("-8Ei", "-9223372036854775807"),
            ("0.0001Ki", "102400u"),
            ("100k", "100k"),
        ];
        for (text, canonical) in table {
            assert_eq!(q(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        use Error::{Format, Suffix};
        let table = [
            ("", Format),
            ("x", Format),
            (".", Format),
            ("1.1.1", Format),
            ("1 Mi", Format),
            ("1Mi ", Format),
            ("--1", Format),
            ("1i", Suffix),
            ("1K", Suffix),
            ("1mi", Suffix),
            ("1ki", Suffix),
            ("1KM", Suffix),
            ("1e", Suffix),
            ("1e1.5", Format),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text:?}");
        }
        assert_eq!("1e400".parse::<Quantity>(), Err(Error::Numeric));
    }

    #[test]
    fn sums_keep_the_first_format() {
        assert_eq!(q("1Gi").plus(q("1000")).to_string(), "1073742824");
        assert_eq!(q("0").plus(q("1Gi")).to_string(), "1Gi");
        assert_eq!(q("1").minus(q("100m")).to_string(), "900m");
        assert_eq!(q("1Mi").minus(q("1Mi")), Quantity::ZERO);
        assert!(q("1").minus(q("2")).is_negative());
    }

    #[test]
    fn numbers_round_up() {
        assert_eq!((q("100m").to_units(), q("100m").to_millis()), (1, 100));
        assert_eq!((q("1Mi").to_units(), q("1u").to_millis()), (1 << 20, 1));
        assert_eq!(q("-100m").to_units(), -1);
        assert_eq!(q("1e25").to_units(), i64::MAX);
        assert_eq!(Quantity::from_millis(1500).to_string(), "1500m");
        assert_eq!(Quantity::from_units(1 << 30, Format::BinarySi).to_string(), "1Gi");
        assert_eq!(q("1500u").rounded_to_millis().to_string(), "2m");
        assert_eq!(q("1Gi").rounded_to_millis().to_string(), "1Gi");
        assert!(q("1k") < q("1Ki") && q("1000m") == q("1"));
    }

    proptest! {
        #[test]
        fn canonical_form_is_stable_and_exact(n in -1_000_000_000_000_i64..1_000_000_000_000, s in 0_usize..16) {
            let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "e3", "e-3", "e6"][s];
            let first = q(&format!("{n}{suffix}"));
            let second = q(&first.to_string());
            prop_assert_eq!(first, second);
            prop_assert_eq!(first.to_string(), second.to_string());
        }

        #[test]
        fn adding_is_undone_by_subtracting(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Quantity::from_millis(a), Quantity::from_millis(b));
            prop_assert_eq!(a.plus(b).minus(b), a);
            prop_assert_eq!(a.plus(b), b.plus(a));
        }
    }
}
