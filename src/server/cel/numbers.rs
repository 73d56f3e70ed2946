//! Numbers as Go writes them.

/// A float as Go's `%v` writes it: the shortest digits, an exponent below 1e-4 and from 1e+06.
pub(crate) fn go_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number == 0.0 || (-4..6).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_in_go() {
        let table =
            [(0.0, "0"), (1.5, "1.5"), (-2.0, "-2"), (1e21, "1e+21"), (1.25e-7, "1.25e-07"), (1e6, "1e+06")];
        for (number, text) in table {
            assert_eq!(go_float(number), text);
        }
    }
}
