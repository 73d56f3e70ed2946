//! Amounts of resources: `apimachinery/pkg/api/resource.Quantity`.

use std::str::FromStr;

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not look like one.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The suffix is none of the known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// It has more digits than are kept.
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

/// An amount, exact to 10⁻⁹. Ordered and compared by its value, whatever its format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// Whole units, as in bytes or cores.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(units) * 1_000_000_000,
            format,
        }
    }

    /// Thousandths, as in CPU.
    pub fn from_millis(millis: i64) -> Self {
        Self {
            nanos: i128::from(millis) * 1_000_000,
            format: Format::DecimalSi,
        }
    }

    /// Whole units, rounded up; saturates.
    pub fn to_units(self) -> i64 {
        todo!()
    }

    /// Thousandths, rounded up; saturates.
    pub fn to_millis(self) -> i64 {
        todo!()
    }

    /// How it was written.
    pub fn format(self) -> Format {
        self.format
    }

    /// The sum, in this one's format unless it is zero; saturates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let _ = other;
        todo!()
    }

    /// The difference; saturates.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let _ = other;
        todo!()
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

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let _ = text;
        todo!()
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = f;
        todo!()
    }
}
