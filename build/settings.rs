//! PodPreset of `settings.k8s.io/v1alpha1`, which Kubernetes dropped in 1.20: composed of types that
//! are still there, with the descriptions it had last.

use serde_json::{Map, Value, json};

use crate::kinds::Kind;

const PRESET: &str = "io.k8s.api.settings.v1alpha1.PodPreset";
const SPEC: &str = "io.k8s.api.settings.v1alpha1.PodPresetSpec";
const POD: &str = "io.k8s.api.core.v1.Pod";

fn reference(name: &str) -> String {
    format!("#/$defs/{name}")
}

/// Adds the kind and its definitions.
pub fn add(kinds: &mut Vec<Kind>, definitions: &mut Map<String, Value>) {
    let list = |of: &str, description: &str| {
        let items = json!({"$ref": reference(&format!("io.k8s.api.core.v1.{of}"))});
        json!({"type": "array", "description": description, "items": items})
    };
    let selector = reference("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector");
    let spec = json!({
        "type": "object",
        "description": "PodPresetSpec is a description of a pod preset.",
        "properties": {
            "selector": {
                "$ref": selector,
                "description": "Selector is a label query over a set of resources, in this case pods. Required.",
            },
            "env": list("EnvVar", "Env defines the collection of EnvVar to inject into containers."),
            "envFrom": list("EnvFromSource", "EnvFrom defines the collection of EnvFromSource to inject into containers."),
            "volumes": list("Volume", "Volumes defines the collection of Volume to inject into the pod."),
            "volumeMounts": list("VolumeMount", "VolumeMounts defines the collection of VolumeMount to inject into containers."),
        },
    });
    let of_pod = |field: &str| definitions[POD]["properties"][field].clone();
    let preset = json!({
        "type": "object",
        "description": "PodPreset is a policy resource that defines additional runtime requirements for a Pod.",
        "properties": {
            "apiVersion": of_pod("apiVersion"),
            "kind": of_pod("kind"),
            "metadata": of_pod("metadata"),
            "spec": {"$ref": reference(SPEC)},
        },
    });
    definitions.insert(SPEC.to_owned(), spec);
    definitions.insert(PRESET.to_owned(), preset);
    kinds.push(Kind {
        group: "settings.k8s.io".to_owned(),
        version: "v1alpha1".to_owned(),
        kind: "PodPreset".to_owned(),
        definition: PRESET.to_owned(),
    });
}
