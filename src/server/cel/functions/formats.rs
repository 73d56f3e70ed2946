//! Formats of names: `format.dns1123Label().validate(x)`.

use super::{Library, text};
use crate::api::names;
use crate::server::cel::EvalError;
use crate::server::cel::opaque::Opaque;
use crate::server::cel::time;
use crate::server::cel::url::Url;
use crate::server::cel::value::Value;

struct Format {
    name: &'static str,
    /// For costs: how long the pattern behind it is.
    size: u64,
    validate: fn(&str) -> Vec<String>,
}

const FORMATS: [Format; 13] = [
    Format { name: "dns1123Label", size: 30, validate: names::dns1123_label },
    Format { name: "dns1123Subdomain", size: 60, validate: names::dns1123_subdomain },
    Format { name: "dns1035Label", size: 30, validate: names::dns1035_label },
    Format { name: "qualifiedName", size: 60, validate: names::qualified_name },
    Format { name: "dns1123LabelPrefix", size: 30, validate: |s| names::dns1123_label(&unfinished(s)) },
    Format {
        name: "dns1123SubdomainPrefix",
        size: 60,
        validate: |s| names::dns1123_subdomain(&unfinished(s)),
    },
    Format { name: "dns1035LabelPrefix", size: 30, validate: |s| names::dns1035_label(&unfinished(s)) },
    Format { name: "labelValue", size: 40, validate: names::label_value },
    Format {
        name: "uri",
        size: 100,
        validate: |s| one(Url::parse_request(s).is_some(), "invalid URI for request"),
    },
    Format {
        name: "uuid",
        size: 60,
        validate: |s| one(uuid::Uuid::try_parse(s).is_ok(), "does not match the UUID format"),
    },
    Format { name: "byte", size: 60, validate: |s| one(is_base64(s), "invalid base64") },
    Format { name: "date", size: 30, validate: |s| one(time::parse_date(s).is_some(), "invalid date") },
    Format {
        name: "datetime",
        size: 30,
        validate: |s| one(time::parse_time(s).is_some(), "invalid datetime"),
    },
];

/// How long the pattern behind a format is.
pub(crate) fn format_size(index: usize) -> u64 {
    FORMATS.get(index).map_or(1, |f| f.size)
}

/// A prefix of a name may end with a hyphen.
fn unfinished(text: &str) -> String {
    text.strip_suffix('-').map_or_else(|| text.to_owned(), |rest| format!("{rest}a"))
}

fn one(right: bool, why: &str) -> Vec<String> {
    if right { Vec::new() } else { vec![why.to_owned()] }
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

pub(super) const LIBRARY: Library = &[
    ("format_dns1123Label format.dns1123Label > format", |_| Ok(of(0))),
    ("format_dns1123Subdomain format.dns1123Subdomain > format", |_| Ok(of(1))),
    ("format_dns1035Label format.dns1035Label > format", |_| Ok(of(2))),
    ("format_qualifiedName format.qualifiedName > format", |_| Ok(of(3))),
    ("format_dns1123LabelPrefix format.dns1123LabelPrefix > format", |_| Ok(of(4))),
    ("format_dns1123SubdomainPrefix format.dns1123SubdomainPrefix > format", |_| Ok(of(5))),
    ("format_dns1035LabelPrefix format.dns1035LabelPrefix > format", |_| Ok(of(6))),
    ("format_labelValue format.labelValue > format", |_| Ok(of(7))),
    ("format_uri format.uri > format", |_| Ok(of(8))),
    ("format_uuid format.uuid > format", |_| Ok(of(9))),
    ("format_byte format.byte > format", |_| Ok(of(10))),
    ("format_date format.date > format", |_| Ok(of(11))),
    ("format_datetime format.datetime > format", |_| Ok(of(12))),
    ("format_named format.named string > optional(format)", |a| {
        let name = text(a, 0)?;
        Ok(FORMATS.iter().position(|f| f.name == name).map_or(Value::none(), |i| Value::some(of(i))))
    }),
    ("format_validate .validate format string > optional(list(string))", |a| {
        let index = match &a[0] {
            Value::Opaque(opaque) => match &**opaque {
                Opaque::Format(index) => *index,
                _ => return Err(EvalError::no_such_overload()),
            },
            _ => return Err(EvalError::no_such_overload()),
        };
        let wrong =
            FORMATS.get(index).map(|f| (f.validate)(text(a, 1).unwrap_or_default())).unwrap_or_default();
        if wrong.is_empty() {
            return Ok(Value::none());
        }
        Ok(Value::some(Value::list(wrong.into_iter().map(Value::text).collect())))
    }),
];

fn of<'a>(index: usize) -> Value<'a> {
    Value::opaque(Opaque::Format(index))
}
