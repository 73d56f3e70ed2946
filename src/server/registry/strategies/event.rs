//! Events: `pkg/apis/core/validation/events.go`. Those written as `events.k8s.io/v1` are held to more.

use serde_json::Value;

use super::check::{Errors, IMMUTABLE, is_empty, same, text};
use crate::api::{FieldError, Meta, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy};

/// The most characters of `reportingInstance`, `action` and `reason`.
const SHORT: usize = 128;
/// The most characters of `message`.
const LONG: usize = 1024;
const ELSEWHERE: &str = "does not match event.namespace";

/// The strategy of Events, stored as the core group has them.
pub struct EventStrategy;

impl Strategy for EventStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn prepare_update(&self, _: &Context<'_>, _: &mut Value, _: &Value) -> Result<(), Status> {
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, _: &Value) -> Vec<FieldError> {
        validate(new)
    }
}

fn validate(event: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let namespace = Meta::of(event).namespace();
    let about = &event["involvedObject"]["namespace"];
    let at = Path::new("involvedObject").child("namespace");
    let elsewhere = FieldError::invalid(&at, text(about), ELSEWHERE);
    if is_empty(&event["eventTime"]) {
        let here = if is_empty(about) { "default" } else { text(about) };
        if namespace != here {
            errors.push(elsewhere);
        }
    } else {
        if is_empty(about) && !matches!(namespace, "default" | "kube-system") {
            errors.push(elsewhere);
        }
        reported(event, &mut errors);
    }
    errors.invalid_all(&Path::new("namespace"), &namespace.into(), names::dns1123_subdomain(namespace));
    errors.0
}

/// Who reports, and what was done: an event with a time of its own says both.
fn reported(event: &Value, errors: &mut Errors) {
    let (by, at) = (&event["reportingComponent"], Path::new("reportingComponent"));
    errors.required(&at, by);
    errors.invalid_all(&at, &text(by).into(), names::qualified_name(text(by)));
    for field in ["reportingInstance", "action", "reason"] {
        errors.required(&Path::new(field), &event[field]);
        short(event, field, SHORT, errors);
    }
    short(event, "message", LONG, errors);
}

fn short(event: &Value, field: &str, most: usize, errors: &mut Errors) {
    if text(&event[field]).len() > most {
        let detail = format!("can have at most {most} characters");
        errors.push(FieldError::invalid(&Path::new(field), "", detail));
    }
}

/// What more is wrong with an event that was written as `events.k8s.io/v1`, here in its stored form.
pub fn validate_new_form(event: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    for error in errors.iter_mut().filter(|e| e.field.as_str() == "reportingComponent") {
        error.field = Path::new("reportingController");
    }
    let mut more = Errors::default();
    match old {
        None => created(event, &mut more),
        Some(old) => changed(event, old, &mut more),
    }
    errors.append(&mut more.0);
}

fn series(event: &Value, errors: &mut Errors) {
    let series = &event["series"];
    if series.is_null() {
        return;
    }
    if series["count"].as_i64().unwrap_or_default() < 2 {
        errors.push(FieldError::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    errors.required(&Path::new("series.lastObservedTime"), &series["lastObservedTime"]);
}

fn created(event: &Value, errors: &mut Errors) {
    series(event, errors);
    errors.required(&Path::new("eventTime"), &event["eventTime"]);
    let kind = text(&event["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid(&Path::new("type"), "", format!("has invalid value: {kind}")));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if !is_empty(&event[field]) && event[field] != 0 {
            errors.push(FieldError::invalid(&Path::new(field), "", "needs to be unset"));
        }
    }
}

/// Only the series of an event goes on.
fn changed(event: &Value, old: &Value, errors: &mut Errors) {
    const STAY: [&str; 9] = [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
    ];
    if !same(&event["series"], &old["series"]) {
        series(event, errors);
    }
    let more = [
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ];
    for (field, called) in STAY.into_iter().map(|f| (f, f)).chain(more) {
        if !same(&event[field], &old[field]) {
            errors.push(FieldError::invalid(&Path::new(called), event[field].clone(), IMMUTABLE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(more: Value) -> Value {
        let mut event = json!({"metadata": {"name": "e", "namespace": "a"}, "involvedObject": {"kind": "Pod", "namespace": "a"}});
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        event
    }

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_event_is_where_its_object_is() {
        assert!(validate(&event(json!({}))).is_empty());
        assert_eq!(
            texts(&validate(&event(json!({"involvedObject": {"namespace": "b"}})))),
            ["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"]
        );
        let of_node = json!({"metadata": {"namespace": "default"}, "involvedObject": {"kind": "Node"}});
        assert!(validate(&of_node).is_empty());
        assert_eq!(validate(&event(json!({"involvedObject": {}}))).len(), 1);
    }

    #[test]
    fn an_event_with_a_time_says_who_reports_it() {
        let timed = event(
            json!({"eventTime": "2026-01-01T00:00:00.000000Z", "action": "x".repeat(129), "reason": "R",
            "reportingComponent": "a/b"}),
        );
        assert_eq!(
            texts(&validate(&timed)),
            [
                "reportingInstance: Required value",
                "action: Invalid value: \"\": can have at most 128 characters"
            ]
        );
    }

    #[test]
    fn the_new_form_is_strict() {
        let mut errors = Vec::new();
        validate_new_form(
            &event(json!({"type": "Odd", "count": 1, "series": {"count": 1}})),
            None,
            &mut errors,
        );
        assert_eq!(
            texts(&errors),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "eventTime: Required value",
                "type: Invalid value: \"\": has invalid value: Odd",
                "count: Invalid value: \"\": needs to be unset"
            ]
        );
        let (old, new) = (
            event(json!({"reason": "A"})),
            event(json!({"reason": "B", "series": {"count": 3, "lastObservedTime": "t"}})),
        );
        let mut errors = vec![FieldError::required(&Path::new("reportingComponent"), "")];
        validate_new_form(&new, Some(&old), &mut errors);
        assert_eq!(
            texts(&errors),
            ["reportingController: Required value", "reason: Invalid value: \"B\": field is immutable"]
        );
    }
}
