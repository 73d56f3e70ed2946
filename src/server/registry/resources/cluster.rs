//! coordination, events, node, scheduling, admissionregistration, apiextensions, settings,
//! metrics.

use super::super::printers::{cluster, usage};
use super::super::{Resource, verbs, views};

/// The category of what extends the API.
const EXTENSIONS: &str = "api-extensions";

pub(super) fn entries() -> Vec<Resource> {
    vec![
        Resource::new("coordination.k8s.io", "v1", "Lease", "leases")
            .lazy()
            .create_on_update()
            .conditional_update()
            .columns(cluster::LEASES),
        Resource::new("events.k8s.io", "v1", "Event", "events")
            .short(&["ev"])
            .lazy()
            .view(&views::EVENTS)
            .create_on_update()
            .columns(cluster::EVENTS),
        Resource::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
            .cluster()
            .conditional_update()
            .columns(cluster::RUNTIME_CLASSES),
        Resource::new("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
            .cluster()
            .short(&["pc"])
            .columns(cluster::PRIORITY_CLASSES),
        admission("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            .category(EXTENSIONS)
            .columns(cluster::WEBHOOKS),
        admission("ValidatingAdmissionPolicy", "validatingadmissionpolicies")
            .category(EXTENSIONS)
            .status()
            .columns(cluster::ADMISSION_POLICIES),
        admission("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
            .columns(cluster::ADMISSION_BINDINGS),
        admission("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
            .category(EXTENSIONS)
            .columns(cluster::WEBHOOKS),
        Resource::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
            .cluster()
            .conditional_update()
            .short(&["crd", "crds"])
            .category(EXTENSIONS)
            .status()
            .columns(cluster::DEFINITIONS),
        Resource::new("settings.k8s.io", "v1alpha1", "PodPreset", "podpresets"),
        metrics("NodeMetrics", "nodes").cluster().columns(usage::NODES),
        metrics("PodMetrics", "pods").columns(usage::PODS),
    ]
}

/// Nothing of it is stored: it is measured when somebody asks.
fn metrics(kind: &'static str, plural: &'static str) -> Resource {
    let entry = Resource::new("metrics.k8s.io", "v1beta1", kind, plural).review().verbs(verbs::GET_LIST);
    Resource { singular: "".into(), ..entry }
}

fn admission(kind: &'static str, plural: &'static str) -> Resource {
    Resource::new("admissionregistration.k8s.io", "v1", kind, plural).cluster().conditional_update()
}
