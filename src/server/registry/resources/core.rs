//! The core group.

use super::super::printers::{access, cluster, network, pod, storage, workloads};
use super::super::{Resource, verbs};
use super::SCALE;
use crate::api::names;
use crate::api::object::SelectableField as Field;

pub(super) fn entries() -> Vec<Resource> {
    let mut entries = vec![
        core("Binding", "bindings").review(),
        core("ComponentStatus", "componentstatuses")
            .cluster()
            .short(&["cs"])
            .deprecated("v1 ComponentStatus is deprecated in v1.19+")
            .review()
            .verbs(verbs::GET_LIST)
            .columns(cluster::COMPONENT_STATUSES),
        core("ConfigMap", "configmaps").short(&["cm"]).columns(access::CONFIG_MAPS),
        core("Endpoints", "endpoints")
            .short(&["ep"])
            .create_on_update()
            .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
            .columns(network::ENDPOINTS),
        core("Event", "events")
            .short(&["ev"])
            .lazy()
            .create_on_update()
            .columns(cluster::EVENTS)
            .fields(event_fields()),
        core("LimitRange", "limitranges")
            .short(&["limits"])
            .create_on_update()
            .columns(cluster::LIMIT_RANGES),
        namespaces(),
        nodes(),
        core("PersistentVolumeClaim", "persistentvolumeclaims")
            .short(&["pvc"])
            .status()
            .returns_deleted()
            .columns(storage::CLAIMS),
        core("PersistentVolume", "persistentvolumes")
            .cluster()
            .short(&["pv"])
            .status()
            .returns_deleted()
            .columns(storage::VOLUMES),
        pods(),
        core("PodTemplate", "podtemplates").returns_deleted().columns(pod::TEMPLATES),
    ];
    entries.extend(more_entries());
    entries
}

fn more_entries() -> Vec<Resource> {
    vec![
        core("ReplicationController", "replicationcontrollers")
            .short(&["rc"])
            .all()
            .status()
            .sub_kind("scale", SCALE, verbs::GET_PATCH_UPDATE)
            .fields(vec![Field::new("status.replicas").or("0")])
            .columns(workloads::REPLICATION_CONTROLLERS),
        core("ResourceQuota", "resourcequotas")
            .short(&["quota"])
            .status()
            .returns_deleted()
            .columns(cluster::RESOURCE_QUOTAS),
        core("Secret", "secrets").fields(vec![Field::new("type")]).columns(access::SECRETS),
        core("ServiceAccount", "serviceaccounts")
            .short(&["sa"])
            .returns_deleted()
            .sub_kind("token", ("authentication.k8s.io", "v1", "TokenRequest"), verbs::CREATE)
            .columns(access::SERVICE_ACCOUNTS),
        core("Service", "services")
            .short(&["svc"])
            .all()
            .names(names::dns1123_label)
            .create_on_update()
            .returns_deleted()
            .status()
            .sub_kind("proxy", ("", "v1", "ServiceProxyOptions"), verbs::PROXY)
            .fields(vec![Field::new("spec.clusterIP"), Field::new("spec.type")])
            .columns(network::SERVICES),
    ]
}

fn core(kind: &'static str, plural: &'static str) -> Resource {
    Resource::new("", "v1", kind, plural)
}

fn namespaces() -> Resource {
    core("Namespace", "namespaces")
        .cluster()
        .short(&["ns"])
        .verbs(verbs::NO_COLLECTION)
        .names(names::dns1123_label)
        .returns_deleted()
        .status()
        .sub("finalize", verbs::UPDATE)
        .fields(vec![Field::new("status.phase")])
        .columns(cluster::NAMESPACES)
}

fn nodes() -> Resource {
    core("Node", "nodes")
        .cluster()
        .short(&["no"])
        .status()
        .sub_kind("proxy", ("", "v1", "NodeProxyOptions"), verbs::PROXY)
        .fields(vec![Field::new("spec.unschedulable").or("false")])
        .columns(cluster::NODES)
}

fn pods() -> Resource {
    core("Pod", "pods")
        .short(&["po"])
        .all()
        .returns_deleted()
        .status()
        .sub("ephemeralcontainers", verbs::GET_PATCH_UPDATE)
        .sub("resize", verbs::GET_PATCH_UPDATE)
        .sub("log", verbs::GET)
        .sub_kind("binding", ("", "v1", "Binding"), verbs::CREATE)
        .sub_kind("eviction", ("policy", "v1", "Eviction"), verbs::CREATE)
        .sub_kind("exec", ("", "v1", "PodExecOptions"), verbs::CREATE_GET)
        .sub_kind("attach", ("", "v1", "PodAttachOptions"), verbs::CREATE_GET)
        .sub_kind("portforward", ("", "v1", "PodPortForwardOptions"), verbs::CREATE_GET)
        .sub_kind("proxy", ("", "v1", "PodProxyOptions"), verbs::PROXY)
        .fields(pod_fields())
        .columns(pod::PODS)
}

fn pod_fields() -> Vec<Field> {
    vec![
        Field::new("spec.nodeName"),
        Field::new("status.phase"),
        Field::new("spec.restartPolicy"),
        Field::new("spec.schedulerName"),
        Field::new("spec.serviceAccountName"),
        Field::new("spec.hostNetwork").or("false"),
        Field::new("status.podIP"),
        Field::new("status.nominatedNodeName"),
    ]
}

fn event_fields() -> Vec<Field> {
    vec![
        Field::new("involvedObject.kind"),
        Field::new("involvedObject.namespace"),
        Field::new("involvedObject.name"),
        Field::new("involvedObject.uid"),
        Field::new("involvedObject.apiVersion"),
        Field::new("involvedObject.resourceVersion"),
        Field::new("involvedObject.fieldPath"),
        Field::new("reason"),
        Field::new("reportingComponent"),
        Field::new("source").at("source.component").or_at("reportingComponent"),
        Field::new("type"),
    ]
}
