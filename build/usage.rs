//! NodeMetrics and PodMetrics of `metrics.k8s.io/v1beta1`, which k8s-openapi does not have.

use serde_json::{Map, Value, json};

use crate::kinds::Kind;

const PACKAGE: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";
const POD: &str = "io.k8s.api.core.v1.Pod";

fn reference(name: &str) -> String {
    format!("#/$defs/{name}")
}

/// Adds the kinds and their definitions.
pub fn add(kinds: &mut Vec<Kind>, definitions: &mut Map<String, Value>) {
    let usage = |of: &str| {
        json!({"type": "object", "description": format!("The memory and CPU that {of} uses."),
            "additionalProperties": {"$ref": reference("io.k8s.apimachinery.pkg.api.resource.Quantity")}})
    };
    let container = json!({
        "type": "object",
        "description": "ContainerMetrics sets resource usage metrics of a container.",
        "required": ["name", "usage"],
        "properties": {
            "name": {"type": "string", "description": "Container name corresponding to the one from pod.spec.containers."},
            "usage": usage("the container"),
        },
    });
    let of_pod = |field: &str| definitions[POD]["properties"][field].clone();
    let measured = |description: &str, name: &str, value: Value| {
        json!({
            "type": "object",
            "description": description,
            "required": ["timestamp", "window", name],
            "properties": {
                "apiVersion": of_pod("apiVersion"),
                "kind": of_pod("kind"),
                "metadata": of_pod("metadata"),
                "timestamp": {
                    "$ref": reference("io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
                    "description": "The end of the interval in which the metrics were collected.",
                },
                "window": {"type": "string", "description": "The length of the interval, as in 15s."},
                name: value,
            },
        })
    };
    let containers = json!({
        "type": "array",
        "description": "Metrics for all containers, collected within the same time window.",
        "items": {"$ref": reference(&format!("{PACKAGE}.ContainerMetrics"))},
    });
    let node = measured("NodeMetrics sets resource usage metrics of a node.", "usage", usage("the node"));
    let pod = measured("PodMetrics sets resource usage metrics of a pod.", "containers", containers);
    for (name, definition) in [("ContainerMetrics", container), ("NodeMetrics", node), ("PodMetrics", pod)] {
        definitions.insert(format!("{PACKAGE}.{name}"), definition);
    }
    for kind in ["NodeMetrics", "PodMetrics"] {
        kinds.push(Kind {
            group: "metrics.k8s.io".to_owned(),
            version: "v1beta1".to_owned(),
            kind: kind.to_owned(),
            definition: format!("{PACKAGE}.{kind}"),
        });
    }
}
