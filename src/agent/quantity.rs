//! Kubernetes quantities, as far as a node needs them: milli-units in an `i128`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value in thousandths, rounded up; `None` if it is no quantity.
pub(crate) fn milli(text: &str) -> Option<i128> {
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (multiplier, divisor): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10i128.checked_pow(exponent)?, 1)
        }
    };
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let numerator = digits.checked_mul(multiplier)?.checked_mul(1_000)?;
    let denominator = scale.checked_mul(divisor)?;
    Some(sign * ((numerator + denominator - 1) / denominator))
}

/// The value in whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<i64> {
    i64::try_from((milli(text)? + 999).div_euclid(1_000)).ok()
}

/// Thousandths of `name` in a resource list; 0 when absent.
pub(crate) fn milli_of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    let value = list.and_then(|l| l.get(name)).and_then(|q| milli(&q.0)).unwrap_or(0);
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whole units of `name` in a resource list; 0 when absent.
pub(crate) fn units_of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i64 {
    list.and_then(|l| l.get(name)).and_then(|q| units(&q.0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_and_fractions() {
        for (text, expected) in [
            ("100m", Some(100)),
            ("1", Some(1_000)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("1k", Some(1_000_000)),
            ("1e3", Some(1_000_000)),
            ("100n", Some(1)),
            ("-1", Some(-1_000)),
            ("", None),
            ("x", None),
            ("1Q", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
        assert_eq!(units("1500m"), Some(2));
        assert_eq!(units("64Mi"), Some(67_108_864));
    }
}
