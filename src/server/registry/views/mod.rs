//! Resources that show the objects of another one.

mod autoscaling;

use serde_json::{Map, Value, json};

use super::View;

/// `events.k8s.io/v1`: core events with other names of fields.
pub static EVENTS: View = View {
    group: "",
    plural: "events",
    from_stored: event_from_core,
    to_stored: event_to_core,
    validate: super::strategies::event::validate_new_form,
};

/// `autoscaling/v1`: autoscalers whose only metric is the processor's utilisation, others are annotations.
pub static AUTOSCALERS_V1: View = View {
    group: "autoscaling",
    plural: "horizontalpodautoscalers",
    from_stored: autoscaling::from_v2,
    to_stored: autoscaling::to_v2,
    validate: |_, _, _| {},
};

/// Field names of core events and of `events.k8s.io`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

fn event_from_core(event: &mut Value) {
    let Some(map) = event.as_object_mut() else { return };
    EVENT_FIELDS.iter().for_each(|(core, new)| rename(map, core, new));
    map.insert("apiVersion".into(), json!("events.k8s.io/v1"));
}

fn event_to_core(event: &mut Value) {
    let Some(map) = event.as_object_mut() else { return };
    EVENT_FIELDS.iter().for_each(|(core, new)| rename(map, new, core));
    map.insert("apiVersion".into(), json!("v1"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_everything_both_ways() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m",
            "source": {"component": "c"}, "count": 2, "reason": "R", "reportingComponent": "c", "firstTimestamp": null});
        let mut event = core.clone();
        event_from_core(&mut event);
        assert_eq!(
            (&event["regarding"]["name"], &event["note"], &event["deprecatedCount"]),
            (&json!("p"), &json!("m"), &json!(2))
        );
        assert_eq!(event["apiVersion"], "events.k8s.io/v1");
        event_to_core(&mut event);
        assert_eq!(event, core);
    }
}
