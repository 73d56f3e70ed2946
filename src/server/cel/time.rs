//! Times and durations as Go reads and writes them.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Nanoseconds.
pub(crate) type Nanos = i64;

const SECOND: i128 = 1_000_000_000;

/// A full date of RFC 3339, at midnight UTC.
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    if !shaped {
        return None;
    }
    let date: Date = text.parse().ok()?;
    date.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp())
}

/// A time of RFC 3339.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let shaped = text.len() >= 20 && text.as_bytes()[10].eq_ignore_ascii_case(&b't');
    (shaped && !text.contains('[')).then(|| text.parse().ok()).flatten()
}

/// A time as Go writes it in RFC 3339, without trailing zeros of the fraction.
pub(crate) fn format_time(time: Timestamp) -> String {
    let mut text = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let nanos = time.subsec_nanosecond().unsigned_abs();
    if nanos != 0 {
        let fraction = format!("{nanos:09}");
        text.push('.');
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

fn unit(text: &str) -> Option<i128> {
    Some(match text {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    })
}

/// A duration as Go's `time.ParseDuration` reads it: `1h30m`, `-1.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<Nanos> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (name, next) = after.split_at(unit_end);
        let unit = unit(name)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total += whole * unit;
        let digits = &fraction[..fraction.len().min(18)];
        if !digits.is_empty() {
            total += digits.parse::<i128>().ok()? * unit / 10_i128.pow(digits.len() as u32);
        }
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A duration as schemas have it: Go's, or words as in `5 days`.
pub(crate) fn parse_duration_of_schemas(text: &str) -> Option<Nanos> {
    const UNITS: [(&[&str], i128); 8] = [
        (&["ns", "nano"], 1),
        (&["us", "µs", "micro"], 1000),
        (&["ms", "milli"], 1_000_000),
        (&["s", "sec"], SECOND),
        (&["m", "min"], 60 * SECOND),
        (&["h", "hr", "hour"], 3600 * SECOND),
        (&["d", "day"], 24 * 3600 * SECOND),
        (&["w", "wk", "week"], 7 * 24 * 3600 * SECOND),
    ];
    if let Some(duration) = parse_duration(text) {
        return Some(duration);
    }
    let (mut total, mut found) = (0_i128, false);
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let trimmed = after.trim_start();
        let letters = trimmed.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ').unwrap_or(trimmed.len());
        let (word, next) = trimmed.split_at(letters);
        rest = next;
        if word.is_empty() {
            continue;
        }
        let number: i64 = number.parse().ok()?;
        let word = word.to_lowercase();
        for (names, unit) in UNITS {
            let long = names.last().is_some_and(|last| word.starts_with(last));
            if long || names.contains(&word.as_str()) {
                found = true;
                total += i128::from(number) * unit;
                break;
            }
        }
    }
    found.then_some(total).and_then(|total| i64::try_from(total).ok())
}

/// A duration as CEL writes it: `5400s`, `1.5s`.
pub(crate) fn format_duration(nanos: Nanos) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let (seconds, fraction) = (total / SECOND as u64, total % SECOND as u64);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    format!("{sign}{seconds}.{}s", format!("{fraction:09}").trim_end_matches('0'))
}

/// A time zone by its name (`Europe/Berlin`) or offset (`+02:00`, `-5:30`).
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let negative = hours.starts_with('-');
        let hours: i32 = hours.trim_start_matches(['+', '-']).parse().ok()?;
        let minutes: i32 = minutes.parse().ok()?;
        let seconds = (hours * 60 + minutes) * 60;
        let offset = jiff::tz::Offset::from_seconds(if negative { -seconds } else { seconds }).ok()?;
        return Some(TimeZone::fixed(offset));
    }
    if name.is_empty() || name == "UTC" {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_in_go() {
        let table = [
            ("0", Some(0)),
            ("1h", Some(3_600_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1us", Some(1000)),
            ("1µs", Some(1000)),
            ("2562047h47m16.854775807s", Some(i64::MAX)),
            ("3000000h", None),
            ("1", None),
            ("", None),
            ("-", None),
            ("1x", None),
            ("1..5s", None),
            ("s", None),
        ];
        for (text, nanos) in table {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        assert_eq!(parse_duration_of_schemas("2 days 3 hours"), Some((2 * 24 + 3) * 3_600_000_000_000));
        assert_eq!(parse_duration_of_schemas("nothing"), None);
        assert_eq!(format_duration(5_400_000_000_000), "5400s");
        assert_eq!(format_duration(-1_500_000_000), "-1.5s");
    }

    #[test]
    fn times_and_zones() {
        let time = parse_time("2020-01-02T03:04:05.600Z").expect("a time");
        assert_eq!(format_time(time), "2020-01-02T03:04:05.6Z");
        assert!(parse_time("2020-01-02").is_none());
        assert!(parse_date("2020-02-30").is_none());
        assert!(zone("+02:00").is_some() && zone("UTC").is_some() && zone("Nowhere/Else").is_none());
    }
}
