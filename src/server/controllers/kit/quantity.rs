//! Amounts of resources as integers, for arithmetic in the scheduler and in quotas.

/// Parses a quantity into thousandths, rounded up; saturates. Malformed text counts as 0, since the
/// API has validated it.
pub fn milli(text: &str) -> i64 {
    clamp(parse(text).map_or(0.0, |(n, exact)| match exact {
        Some(whole) => (whole as f64) * 1000.0,
        None => (n * 1000.0 - 1e-6).ceil(),
    }))
}

/// Parses a quantity into whole units, rounded up; saturates. Malformed text counts as 0.
pub fn value(text: &str) -> i64 {
    match parse(text) {
        Some((_, Some(whole))) => whole,
        Some((n, None)) => clamp((n - 1e-9).ceil()),
        None => 0,
    }
}

fn clamp(n: f64) -> i64 {
    // Casting saturates.
    n as i64
}

/// The number, and exactly if it is a whole number that fits.
fn parse(text: &str) -> Option<(f64, Option<i64>)> {
    let text = text.trim();
    let digits =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor: f64 = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        exponent => {
            let n = exponent.strip_prefix(['e', 'E'])?;
            10f64.powi(n.parse().ok()?)
        }
    };
    let exact =
        number.parse::<i64>().ok().filter(|_| factor >= 1.0).and_then(|n| n.checked_mul(factor as i64));
    Some((number.parse::<f64>().ok()? * factor, exact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_integers() {
        for (text, in_milli, whole) in [
            ("100m", 100, 1),
            ("1", 1000, 1),
            ("0.5", 500, 1),
            ("1.5", 1500, 2),
            ("2Gi", 2_147_483_648_000, 2_147_483_648),
            ("128974848", 128_974_848_000, 128_974_848),
            ("1e3", 1_000_000, 1000),
            ("12k", 12_000_000, 12_000),
            ("", 0, 0),
            ("bad", 0, 0),
            ("1u", 1, 1),
        ] {
            assert_eq!((milli(text), value(text)), (in_milli, whole), "{text}");
        }
    }

    #[test]
    fn huge_quantities_saturate() {
        assert_eq!(value("900Ei"), i64::MAX);
        assert_eq!(milli("900Ei"), i64::MAX);
    }
}
