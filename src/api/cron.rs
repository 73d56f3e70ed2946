//! Schedules of CronJobs, in the standard format of five fields and the descriptors that start with `@`:
//! <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax>.
//!
//! Errors are in the words of the parser upstream uses.

use super::field::quote;

/// When something is to happen, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes that are in all of these sets.
    Fields(Fields),
    /// After this many seconds, over and over.
    Every(u64),
}

/// Sets of numbers, a bit each. `day` and `weekday` are both asked only if neither is `*`; then either will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 1 to 31.
    pub day: u64,
    /// 1 to 12.
    pub month: u64,
    /// 0, Sunday, to 6.
    pub weekday: u64,
    /// The day was given as `*` or `?`.
    pub any_day: bool,
    /// The weekday was given as `*` or `?`.
    pub any_weekday: bool,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("empty spec string")]
    Empty,
    /// Too few or too many fields.
    #[error("expected exactly 5 fields, found {found}: {fields}")]
    FieldCount {
        /// How many there are.
        found: usize,
        /// All of them, in brackets.
        fields: String,
    },
    /// No such descriptor.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    /// `@every` without a duration.
    #[error("failed to parse duration {0}: time: invalid duration {quoted}", quoted = quote(.1))]
    Duration(String, String),
    /// The time zone is unknown.
    #[error("provided bad location {0}: unknown time zone {0}")]
    Location(String),
    /// `1-2-3`
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    /// `1/2/3`
    #[error("too many slashes: {0}")]
    Slashes(String),
    /// Not a number, and no name.
    #[error("failed to parse int from {0}: strconv.Atoi: parsing {quoted}: invalid syntax", quoted = quote(.0))]
    Number(String),
    /// A negative number.
    #[error("negative number ({0}) not allowed: {1}")]
    Negative(i64, String),
    /// Before the first.
    #[error("beginning of range ({0}) below minimum ({1}): {2}")]
    Below(u64, u64, String),
    /// After the last.
    #[error("end of range ({0}) above maximum ({1}): {2}")]
    Above(u64, u64, String),
    /// From late to early.
    #[error("beginning of range ({0}) beyond end of range ({1}): {2}")]
    Backwards(u64, u64, String),
    /// Every zero.
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

/// What a field may hold.
struct Bounds {
    low: u64,
    high: u64,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const BOUNDS: [Bounds; 5] = [
    Bounds { low: 0, high: 59, names: &[] },
    Bounds { low: 0, high: 23, names: &[] },
    Bounds { low: 1, high: 31, names: &[] },
    Bounds { low: 1, high: 12, names: &MONTHS },
    Bounds { low: 0, high: 6, names: &WEEKDAYS },
];

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// Says what is wrong with which part.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut text = text;
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if let Some(zoned) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            let (zone, rest) = zoned.split_once(' ').unwrap_or((zoned, ""));
            if jiff::tz::TimeZone::get(zone).is_err() {
                return Err(Error::Location(zone.to_owned()));
            }
            text = rest.trim();
        }
        if text.starts_with('@') {
            return descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let shown = format!("[{}]", fields.join(" "));
            return Err(Error::FieldCount { found: fields.len(), fields: shown });
        };
        let any = |field: &str| field.split(',').any(|part| matches!(part, "*" | "?"));
        Ok(Self::Fields(Fields {
            minute: set(minute, &BOUNDS[0])?,
            hour: set(hour, &BOUNDS[1])?,
            day: set(day, &BOUNDS[2])?,
            month: set(month, &BOUNDS[3])?,
            weekday: set(weekday, &BOUNDS[4])?,
            any_day: any(day),
            any_weekday: any(weekday),
        }))
    }
}

fn descriptor(text: &str) -> Result<Schedule, Error> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => {
            let Some(duration) = other.strip_prefix("@every ") else {
                return Err(Error::Descriptor(other.to_owned()));
            };
            let seconds =
                seconds(duration).ok_or_else(|| Error::Duration(other.to_owned(), duration.to_owned()))?;
            // Nothing happens more than once a second.
            return Ok(Schedule::Every(seconds.max(1)));
        }
    };
    Schedule::parse(fields)
}

/// A duration as Go writes it, `1h30m`, in seconds.
fn seconds(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let (mut total, mut parts) = (0.0, 0);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..number].parse().ok()?;
        rest = &rest[number..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..end])?;
        total += value * unit;
        parts += 1;
        rest = &rest[end..];
    }
    (parts > 0 && total < 9.2e9).then_some(total as u64)
}

/// The numbers of one field: parts with commas between.
fn set(field: &str, bounds: &Bounds) -> Result<u64, Error> {
    field.split(',').filter(|part| !part.is_empty()).try_fold(0, |all, part| Ok(all | range(part, bounds)?))
}

/// `*`, `2`, `2-4`, `*/5`, `2-10/3` or `2/3`.
fn range(part: &str, bounds: &Bounds) -> Result<u64, Error> {
    let halves: Vec<&str> = part.split('/').collect();
    let ends: Vec<&str> = halves[0].split('-').collect();
    let (start, mut end) = match ends.as_slice() {
        ["*" | "?"] => (bounds.low, bounds.high),
        [one] => {
            let one = number_or_name(one, bounds)?;
            (one, one)
        }
        [low, high] if !matches!(*low, "*" | "?") => {
            (number_or_name(low, bounds)?, number_or_name(high, bounds)?)
        }
        ["*" | "?", _] => (bounds.low, bounds.high),
        _ => return Err(Error::Hyphens(part.to_owned())),
    };
    let step = match halves.as_slice() {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 {
                // `2/3` goes on to the end.
                end = bounds.high;
            }
            number(step)?
        }
        _ => return Err(Error::Slashes(part.to_owned())),
    };
    if start < bounds.low {
        return Err(Error::Below(start, bounds.low, part.to_owned()));
    }
    if end > bounds.high {
        return Err(Error::Above(end, bounds.high, part.to_owned()));
    }
    if start > end {
        return Err(Error::Backwards(start, end, part.to_owned()));
    }
    let step =
        usize::try_from(step).ok().filter(|step| *step > 0).ok_or_else(|| Error::Step(part.to_owned()))?;
    Ok((start..=end).step_by(step).fold(0, |bits, n| bits | 1 << n))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, Error> {
    match bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        Some(index) => Ok(bounds.low + index as u64),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, Error> {
    let n: i64 = text.parse().map_err(|_| Error::Number(text.to_owned()))?;
    u64::try_from(n).map_err(|_| Error::Negative(n, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        match Schedule::parse(text).unwrap() {
            Schedule::Fields(fields) => fields,
            Schedule::Every(_) => panic!("{text}"),
        }
    }

    #[test]
    fn fields_are_sets() {
        let all = fields("*/20 1-3 1,15 JAN-mar ?");
        assert_eq!(all.minute, 1 | 1 << 20 | 1 << 40);
        assert_eq!(all.hour, 0b1110);
        assert_eq!(all.day, 1 << 1 | 1 << 15);
        assert_eq!(all.month, 0b1110);
        assert_eq!((all.weekday, all.any_day, all.any_weekday), (0b111_1111, false, true));
        assert_eq!(fields("50/5 * * * *").minute, 1 << 50 | 1 << 55);
        assert_eq!(fields("@weekly"), fields("0 0 * * sun"));
        assert_eq!(fields("TZ=UTC 0 0 * * *").hour, 1);
        assert_eq!(Schedule::parse("@every 1h30m"), Ok(Schedule::Every(5400)));
        assert_eq!(Schedule::parse("@every 1.5s"), Ok(Schedule::Every(1)));
    }

    #[test]
    fn wrong_schedules_are_told_as_upstream_tells_them() {
        for (schedule, why) in [
            ("", "empty spec string"),
            ("* *", "expected exactly 5 fields, found 2: [* *]"),
            ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("TZ=Nowhere/X * * * * *", "provided bad location Nowhere/X: unknown time zone Nowhere/X"),
        ] {
            assert_eq!(Schedule::parse(schedule).unwrap_err().to_string(), why, "{schedule:?}");
        }
    }
}
