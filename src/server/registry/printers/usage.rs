//! Columns of `metrics.k8s.io`, as metrics-server prints them.

use serde_json::Value;

use super::{Clock, Column, NAME, items, text_at};
use crate::api::quantity::Quantity;

const fn quantity(name: &'static str, cell: fn(&Value, &Clock) -> Value) -> Column {
    Column { name, kind: "string", format: "quantity", priority: 0, description: "", cell }
}

const WINDOW: Column = Column {
    name: "Window",
    kind: "string",
    format: "duration",
    priority: 0,
    description: "",
    cell: |o, _| text_at(o, "/window", "").into(),
};

/// Columns of nodes.
pub const NODES: &[Column] = &[
    NAME,
    quantity("cpu", |o, _| text_at(o, "/usage/cpu", "0").into()),
    quantity("memory", |o, _| text_at(o, "/usage/memory", "0").into()),
    WINDOW,
];

/// Columns of pods: the sums of their containers.
pub const PODS: &[Column] =
    &[NAME, quantity("cpu", |o, _| sum(o, "cpu")), quantity("memory", |o, _| sum(o, "memory")), WINDOW];

fn sum(pod: &Value, resource: &str) -> Value {
    let amounts =
        items(pod, "/containers").iter().filter_map(|c| c["usage"][resource].as_str()?.parse().ok());
    amounts.fold(Quantity::ZERO, Quantity::plus).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_the_sum_of_its_containers() {
        let usage = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let pod = json!({"containers": [usage("1500000n", "1Mi"), usage("500000n", "3Mi")]});
        assert_eq!((sum(&pod, "cpu"), sum(&pod, "memory")), (json!("2m"), json!("4Mi")));
    }
}
