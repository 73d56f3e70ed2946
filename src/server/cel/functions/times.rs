//! Parts of times and durations.

use jiff::Zoned;
use jiff::tz::TimeZone;

use super::{Library, text};
use crate::server::cel::EvalError;
use crate::server::cel::time;
use crate::server::cel::value::Value;

macro_rules! parts {
    ($(($name:literal, $of:expr),)*) => {
        &[$(
            (concat!("timestamp_", $name, " .", $name, " timestamp > int"), |a| part(a, $of)),
            (concat!("timestamp_", $name, "_tz .", $name, " timestamp string > int"), |a| part(a, $of)),
        )*
            ("duration_to_hours .getHours duration > int", |a| whole(a, 3_600_000_000_000)),
            ("duration_to_minutes .getMinutes duration > int", |a| whole(a, 60_000_000_000)),
            ("duration_to_seconds .getSeconds duration > int", |a| whole(a, 1_000_000_000)),
            ("duration_to_milliseconds .getMilliseconds duration > int", |a| whole(a, 1_000_000)),
        ]
    };
}

pub(super) const LIBRARY: Library = parts![
    ("getFullYear", |t| i64::from(t.year())),
    ("getMonth", |t| i64::from(t.month()) - 1),
    ("getDayOfYear", |t| i64::from(t.day_of_year()) - 1),
    ("getDayOfMonth", |t| i64::from(t.day()) - 1),
    ("getDate", |t| i64::from(t.day())),
    ("getDayOfWeek", |t| i64::from(t.weekday().to_sunday_zero_offset())),
    ("getHours", |t| i64::from(t.hour())),
    ("getMinutes", |t| i64::from(t.minute())),
    ("getSeconds", |t| i64::from(t.second())),
    ("getMilliseconds", |t| i64::from(t.millisecond())),
];

fn part<'a>(args: &[Value<'a>], of: fn(&Zoned) -> i64) -> Result<Value<'a>, EvalError> {
    let Value::Timestamp(at) = &args[0] else { return Err(EvalError::no_such_overload()) };
    let zone = match args.len() {
        1 => TimeZone::UTC,
        _ => {
            let name = text(args, 1)?;
            time::zone(name).ok_or_else(|| EvalError::failed(format!("unknown time zone {name}")))?
        }
    };
    Ok(Value::Int(of(&at.to_zoned(zone))))
}

fn whole<'a>(args: &[Value<'a>], unit: i64) -> Result<Value<'a>, EvalError> {
    match &args[0] {
        Value::Duration(nanos) => Ok(Value::Int(nanos / unit)),
        _ => Err(EvalError::no_such_overload()),
    }
}
