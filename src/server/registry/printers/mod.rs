//! Printer columns: what `kubectl get` shows of an object.
//!
//! Titles, order and values follow upstream's `pkg/printers/internalversion`; kubectl shows what the
//! server's `Table` says. One file a family of kinds.

use serde_json::{Value, json};

use super::{Clock, Column};

pub mod access;
pub mod cluster;
pub mod network;
pub mod pod;
pub mod storage;
pub mod usage;
pub mod workloads;

/// Shown where there is nothing.
pub(crate) const NONE: &str = "<none>";
/// Shown where nothing is known.
pub(crate) const UNKNOWN: &str = "<unknown>";

/// Columns of kinds that have none of their own.
pub const DEFAULT: &[Column] = &[NAME, CREATED_AT];

/// When the object was created, where kubectl shows no age.
pub(crate) const CREATED_AT: Column =
    Column { kind: "date", ..Column::text("Created At", CREATED, created_at) };

const CREATED: &str = "When the object was created.";

/// The object's name.
pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
    description: "Name must be unique within a namespace.",
    cell: |o, _| o["metadata"]["name"].clone(),
};

/// The object's age.
pub(crate) const AGE: Column =
    Column::text("Age", CREATED, |o, c| c.age(&o["metadata"]["creationTimestamp"]).into());

fn created_at(object: &Value, _: &Clock) -> Value {
    object["metadata"]["creationTimestamp"].clone()
}

impl Column {
    /// A column of text that is always shown.
    pub const fn text(
        name: &'static str,
        description: &'static str,
        cell: fn(&Value, &Clock) -> Value,
    ) -> Self {
        Self { name, kind: "string", format: "", priority: 0, description, cell }
    }

    /// A column of whole numbers that is always shown.
    pub const fn int(
        name: &'static str,
        description: &'static str,
        cell: fn(&Value, &Clock) -> Value,
    ) -> Self {
        Self { name, kind: "integer", format: "", priority: 0, description, cell }
    }

    /// Shown by `-o wide` only.
    #[must_use]
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

impl Clock {
    /// How long ago a time in RFC 3339 was, in short.
    pub(crate) fn age(&self, time: &Value) -> String {
        match time.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()) {
            Some(time) => human_duration(self.0.as_second() - time.as_second()),
            None => UNKNOWN.to_owned(),
        }
    }
}

/// Seconds as kubectl writes durations: two units at most, fewer the longer it is.
pub(crate) fn human_duration(seconds: i64) -> String {
    let two = |large: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, 'd', hours % 24, 'h'),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, 'y', days % 365, 'd'),
        _ => format!("{years}y"),
    }
}

/// Text at a JSON pointer; `otherwise` if there is none or it is empty.
pub(crate) fn text_at<'a>(object: &'a Value, pointer: &str, otherwise: &'a str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).filter(|s| !s.is_empty()).unwrap_or(otherwise)
}

/// A number at a JSON pointer, 0 if there is none.
pub(crate) fn int_at(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The items of a list at a JSON pointer.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// How many entries a map or list at a JSON pointer has.
pub(crate) fn len_at(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

/// `a=b,c=d` of a map of text, or `<none>`.
pub(crate) fn labels(map: Option<&Value>) -> String {
    match map.and_then(Value::as_object) {
        Some(map) if !map.is_empty() => map
            .iter()
            .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(","),
        _ => NONE.to_owned(),
    }
}

/// A `metav1.LabelSelector` in one line.
pub(crate) fn label_selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector.filter(|s| s.is_object()) else {
        return NONE.to_owned();
    };
    let mut terms: Vec<String> = Vec::new();
    if len_at(selector, "/matchLabels") > 0 {
        terms.push(labels(selector.get("matchLabels")));
    }
    for expression in items(selector, "/matchExpressions") {
        let key = text_at(expression, "/key", "");
        let values = texts(items(expression, "/values")).join(",");
        terms.push(match text_at(expression, "/operator", "") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    if terms.is_empty() { NONE.to_owned() } else { terms.join(",") }
}

/// The texts of a list.
pub(crate) fn texts(list: &[Value]) -> Vec<&str> {
    list.iter().filter_map(Value::as_str).collect()
}

/// The texts, joined; `<none>` if there are none.
pub(crate) fn join_or_none(list: &[&str], separator: &str) -> String {
    if list.is_empty() { NONE.to_owned() } else { list.join(separator) }
}

/// `field` of each container of a pod template at a JSON pointer, joined by commas.
pub(crate) fn of_containers(object: &Value, containers: &str, field: &str) -> Value {
    let pointer = format!("/{field}");
    let list: Vec<&str> = items(object, containers).iter().map(|c| text_at(c, &pointer, "")).collect();
    json!(list.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (180 * 60, "3h"),
            (3 * 3600 + 300, "3h5m"),
            (8 * 3600 + 300, "8h"),
            (47 * 3600, "47h"),
            (49 * 3600, "2d1h"),
            (9 * 86400, "9d"),
            (729 * 86400, "729d"),
            (731 * 86400, "2y1d"),
            (9 * 365 * 86400, "9y"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn ages_of_unknown_times_are_unknown() {
        let clock = Clock("2026-01-01T00:01:00Z".parse().unwrap());
        assert_eq!(clock.age(&json!("2026-01-01T00:00:00Z")), "60s");
        assert_eq!(clock.age(&Value::Null), UNKNOWN);
    }

    #[test]
    fn selectors_print_in_one_line() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]});
        assert_eq!(label_selector(Some(&selector)), "a=b,c in (d,e),!f");
        assert_eq!(label_selector(None), NONE);
        assert_eq!(label_selector(Some(&json!({}))), NONE);
    }
}
