//! What the fields of each message are called in JSON, and what they hold.
//!
//! `fields.txt` has a line a message: its name, then its fields in order of number. A line `@core/v1`
//! begins a package. A field is `[number][?]name[* | %][:type]`:
//!
//! - the number is written where it is not one more than the one before;
//! - `?`: an empty value counts, as of Go's pointers;
//! - no name: the fields of the message lie in the outer object itself;
//! - `*` is a list, `%` a map with text as its keys;
//! - types are `b`ool, `i`nteger, `y` bytes, `d`ouble, text if none is given, or a message, one of the
//!   same package with a dot before it.

use std::collections::HashMap;
use std::sync::OnceLock;

static TEXT: &str = include_str!("fields.txt");

/// How often a field's value occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Map,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    Int,
    Bytes,
    Double,
    Message(String),
    Special(Special),
}

/// Messages that JSON writes in a form of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// JSON as it is.
    Raw,
    /// A list of texts.
    Values,
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) keep: bool,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
}

type Messages = HashMap<String, Vec<Field>>;

/// The fields of a message, such as `core/v1.Pod`. The table is read at the first call.
pub(super) fn fields(message: &str) -> Option<&'static [Field]> {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| parse(TEXT)).get(message).map(Vec::as_slice)
}

fn parse(text: &'static str) -> Messages {
    let mut messages = Messages::new();
    let mut package = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('@') {
            package = name;
            continue;
        }
        let mut words = line.split(' ');
        let Some(name) = words.next() else { continue };
        let mut number = 0;
        let fields = words.map(|word| field(word, package, &mut number)).collect();
        messages.insert(format!("{package}.{name}"), fields);
    }
    messages
}

fn field(word: &'static str, package: &str, number: &mut u32) -> Field {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    *number = word[..digits].parse().unwrap_or(*number + 1);
    let (keep, rest) = match word[digits..].strip_prefix('?') {
        Some(rest) => (true, rest),
        None => (false, &word[digits..]),
    };
    let (name, kind) = rest.split_once(':').unwrap_or((rest, ""));
    let (name, shape) = match (name.strip_suffix('*'), name.strip_suffix('%')) {
        (Some(name), _) => (name, Shape::List),
        (_, Some(name)) => (name, Shape::Map),
        _ => (name, Shape::One),
    };
    Field { number: *number, name, keep, shape, kind: kind_of(kind, package) }
}

fn kind_of(word: &str, package: &str) -> Kind {
    let full = match word.strip_prefix('.') {
        Some(name) => format!("{package}.{name}"),
        None => word.to_owned(),
    };
    match &*full {
        "" => Kind::Text,
        "b" => Kind::Bool,
        "i" => Kind::Int,
        "y" => Kind::Bytes,
        "d" => Kind::Double,
        "meta/v1.Time" => Kind::Special(Special::Time),
        "meta/v1.MicroTime" => Kind::Special(Special::MicroTime),
        "meta/v1.Duration" => Kind::Special(Special::Duration),
        "meta/v1.FieldsV1" | "runtime.RawExtension" => Kind::Special(Special::Raw),
        "resource.Quantity" => Kind::Special(Special::Quantity),
        "intstr.IntOrString" => Kind::Special(Special::IntOrString),
        name if name.ends_with(".ExtraValue") => Kind::Special(Special::Values),
        _ => Kind::Message(full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let messages = parse(TEXT);
        for (name, fields) in &messages {
            for pair in fields.windows(2) {
                assert!(pair[0].number < pair[1].number, "{name}: {pair:?}");
            }
            for field in fields {
                if let Kind::Message(inner) = &field.kind {
                    assert!(messages.contains_key(inner), "{name}.{} is a {inner}", field.name);
                }
                assert!(
                    !field.name.is_empty() || matches!(field.kind, Kind::Message(_)),
                    "{name}: {field:?}"
                );
            }
        }
    }

    #[test]
    fn fields_are_read_in_all_their_forms() {
        let mut number = 3;
        let mut read = |word| field(word, "core/v1", &mut number);
        let name = read("?name");
        assert_eq!((name.number, name.keep, name.kind), (4, true, Kind::Text));
        let list = read("17items*:.Pod");
        assert_eq!((list.number, list.name, list.shape), (17, "items", Shape::List));
        assert_eq!(list.kind, Kind::Message("core/v1.Pod".into()));
        let map = read("limits%:resource.Quantity");
        assert_eq!((map.number, map.shape, map.kind), (18, Shape::Map, Kind::Special(Special::Quantity)));
        assert_eq!(read(":.VolumeSource").name, "");
    }
}
