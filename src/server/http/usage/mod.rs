//! `metrics.k8s.io`: what nodes and pods use now, as metrics-server answers it
//! (<https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/>).
//!
//! Nothing is collected while nobody asks. A request reads `/metrics/resource` of all nodes ([`scrape`]) unless
//! that was done a moment ago; CPU use is the difference to the reading before ([`points`]).

mod points;
mod scrape;

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::{Answer, Api, Cx};
use super::negotiate::Form;
use super::{render, table};
use crate::api::meta::now;
use crate::api::quantity::{Format, Quantity};
use crate::api::{FieldSelector, LabelSelector, Object, Status, go_duration};
use crate::server::reader::Reader;
use points::{Sample, Used};
pub(super) use scrape::Readings;

/// The group that is answered here.
pub(super) const GROUP: &str = "metrics.k8s.io";

/// One object's use, or that of many.
pub(super) async fn serve(api: &Api, cx: &Cx) -> Answer {
    let pods = cx.entry.plural == "pods";
    let stored = if pods { "pods" } else { "nodes" };
    let reader: &dyn Reader = &*api.objects.cache;
    let form = render::output(cx)?.form;
    if let Some(name) = cx.info.name.as_deref() {
        let kind = api.objects.registry.stored(stored).ok_or_else(Status::no_such_path)?;
        let object = api.objects.get(&kind, cx.namespace(), name)?;
        let sample = api.usage.sample(api, |sample| tells(sample, &object)).await;
        let full = cx.namespace().map_or_else(|| name.to_owned(), |ns| format!("{ns}/{name}"));
        let missing = || Status::not_found(&cx.entry.group_resource(), &full);
        let value = item(&sample, &object, cx).ok_or_else(missing)?;
        return answer(cx, form, json!({}), vec![value], |mut items| items.swap_remove(0));
    }
    let options = cx.params.list_options()?;
    let chosen: Vec<_> = reader
        .list(stored, cx.namespace())
        .into_iter()
        .filter(|o| selected(o, &options.labels, &options.fields))
        .collect();
    let sample = api.usage.sample(api, |sample| chosen.iter().all(|object| tells(sample, object))).await;
    let items = chosen.iter().filter_map(|object| item(&sample, object, cx)).collect();
    answer(
        cx,
        form,
        json!({}),
        items,
        |items| json!({"kind": cx.entry.list_kind, "apiVersion": cx.entry.api_version(), "metadata": {}, "items": items}),
    )
}

fn answer(
    cx: &Cx,
    form: Form,
    metadata: Value,
    items: Vec<Value>,
    whole: impl FnOnce(Vec<Value>) -> Value,
) -> Answer {
    let value = match form {
        Form::Table(version) => table::of_many(cx, version, metadata, items.into_iter())?,
        _ => whole(items),
    };
    render::value(cx, StatusCode::OK, &value)
}

/// Labels are those of the pod or node; of the fields only name and namespace are known.
fn selected(object: &Object, labels: &LabelSelector, fields: &FieldSelector) -> bool {
    let field = |field: &str| match field {
        "metadata.name" => Some(object.name()),
        "metadata.namespace" => Some(object.namespace()),
        _ => None,
    };
    labels.matches(|key| object.label(key)) && fields.matches(field)
}

/// Whether there is nothing more to learn of a pod or node: its use is known, it does not run, or its node did not
/// answer.
fn tells(sample: &Sample, object: &Object) -> bool {
    let stored = object.value();
    let node = stored.pointer("/spec/nodeName").and_then(Value::as_str);
    let runs = stored.pointer("/status/phase").and_then(Value::as_str) == Some("Running");
    node.filter(|node| runs && sample.0.contains_key(*node))
        .is_none_or(|node| sample.pod(node, object.namespace(), object.name()).is_some())
}

/// The use of a stored pod or node; `None` while it is not known.
fn item(sample: &Sample, object: &Object, cx: &Cx) -> Option<Value> {
    let stored = object.value();
    let mut metadata = json!({"name": object.name(), "creationTimestamp": now()});
    if let Some(labels) = stored.pointer("/metadata/labels") {
        metadata["labels"] = labels.clone();
    }
    let mut value =
        json!({"kind": cx.entry.kind, "apiVersion": cx.entry.api_version(), "metadata": metadata});
    let (at, window) = if cx.entry.plural == "pods" {
        value["metadata"]["namespace"] = json!(object.namespace());
        let node = stored.pointer("/spec/nodeName").and_then(Value::as_str)?;
        let containers = sample.pod(node, object.namespace(), object.name())?;
        // The oldest of its readings is the pod's.
        let oldest = containers.values().min_by_key(|used| used.at)?;
        let times = (oldest.at, oldest.window);
        value["containers"] = of_containers(&containers);
        times
    } else {
        let used = sample.node(object.name())?;
        value["usage"] = usage(&used);
        (used.at, used.window)
    };
    value["timestamp"] = json!(seconds(at));
    value["window"] = json!(go_duration(Duration::from_millis(u64::try_from(window).unwrap_or(0))));
    Some(value)
}

fn of_containers(containers: &BTreeMap<String, Used>) -> Value {
    containers.iter().map(|(name, used)| json!({"name": name, "usage": usage(used)})).collect()
}

fn usage(used: &Used) -> Value {
    let cpu: Quantity = format!("{}n", used.cpu_nanos).parse().unwrap_or(Quantity::ZERO);
    let memory = Quantity::from_units(i64::try_from(used.memory).unwrap_or(i64::MAX), Format::BinarySi);
    json!({"cpu": cpu.to_string(), "memory": memory.to_string()})
}

fn seconds(at: i64) -> String {
    let at = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(seconds(1_700_000_000_999), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn amounts_are_canonical() {
        let used = Used { at: 0, window: 1, cpu_nanos: 1_500_000_000, memory: 3 << 20 };
        assert_eq!(usage(&used), json!({"cpu": "1500m", "memory": "3Mi"}));
        let used = Used { cpu_nanos: 1_234_567, memory: 1025, ..used };
        assert_eq!(usage(&used), json!({"cpu": "1234567n", "memory": "1025"}));
    }
}
