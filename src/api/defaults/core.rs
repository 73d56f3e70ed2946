//! Services, volumes' claims, namespaces, secrets: upstream's `pkg/apis/core/v1/defaults.go` but for pods.

use base64::Engine as _;
use serde_json::{Value, json};

use super::Fixed::{Object, Text};
use super::{Fields, Rule, fill, fill_empty, fixed, object, text, with};

pub(super) const RULES: &[Rule] = &[
    with("core.v1.Service", &[("spec", Object)], service),
    with(
        "core.v1.ServiceSpec",
        &[("sessionAffinity", Text("None")), ("type", Text("ClusterIP"))],
        service_spec,
    ),
    with("core.v1.ServicePort", &[("protocol", Text("TCP"))], service_port),
    fixed("core.v1.EndpointPort", &[("protocol", Text("TCP"))]),
    with("core.v1.Secret", &[("type", Text("Opaque"))], secret),
    with("core.v1.Namespace", &[("status", Object)], namespace),
    fixed("core.v1.NamespaceStatus", &[("phase", Text("Active"))]),
    with("core.v1.NodeStatus", &[], node_status),
    fixed("core.v1.PersistentVolume", &[("status", Object)]),
    fixed("core.v1.PersistentVolumeStatus", &[("phase", Text("Pending"))]),
    fixed(
        "core.v1.PersistentVolumeSpec",
        &[("persistentVolumeReclaimPolicy", Text("Retain")), ("volumeMode", Text("Filesystem"))],
    ),
    fixed("core.v1.PersistentVolumeClaim", &[("status", Object)]),
    fixed("core.v1.PersistentVolumeClaimStatus", &[("phase", Text("Pending"))]),
    fixed("core.v1.PersistentVolumeClaimSpec", &[("volumeMode", Text("Filesystem"))]),
    with("core.v1.LimitRangeItem", &[], limit_range_item),
    with("core.v1.ReplicationController", &[], replication_controller),
    fixed("core.v1.ReplicationControllerSpec", &[("replicas", super::Fixed::Int(1))]),
];

/// Three hours: how long a client sticks to an endpoint.
const CLIENT_IP_TIMEOUT_SECONDS: i64 = 10_800;

fn service(service: &mut Fields) {
    let balanced = service.get("spec").is_some_and(|s| s["type"] == "LoadBalancer");
    let ingress = service.get_mut("status").and_then(|s| s.pointer_mut("/loadBalancer/ingress"));
    for ingress in ingress.filter(|_| balanced).and_then(Value::as_array_mut).into_iter().flatten() {
        if ingress["ip"].as_str().is_some_and(|ip| !ip.is_empty()) && ingress["ipMode"].is_null() {
            ingress["ipMode"] = "VIP".into();
        }
    }
    service.entry("status").or_insert_with(|| json!({}));
    if let Some(status) = object(service, "status") {
        status.entry("loadBalancer").or_insert_with(|| json!({}));
    }
}

fn service_spec(spec: &mut Fields) {
    match text(spec, "sessionAffinity") {
        "None" => drop(spec.remove("sessionAffinityConfig")),
        "ClientIP" => {
            let config = spec.entry("sessionAffinityConfig").or_insert(Value::Null);
            if config.pointer("/clientIP/timeoutSeconds").is_none_or(Value::is_null) {
                *config = json!({"clientIP": {"timeoutSeconds": CLIENT_IP_TIMEOUT_SECONDS}});
            }
        }
        _ => {}
    }
    let kind = text(spec, "type").to_owned();
    let external_addresses = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|a| !a.is_empty());
    let external =
        kind == "NodePort" || kind == "LoadBalancer" || (kind == "ClusterIP" && external_addresses);
    if external && text(spec, "externalTrafficPolicy").is_empty() {
        spec.insert("externalTrafficPolicy".into(), "Cluster".into());
    }
    if kind != "ExternalName" {
        spec.entry("internalTrafficPolicy").or_insert_with(|| "Cluster".into());
    }
    if kind == "LoadBalancer" {
        spec.entry("allocateLoadBalancerNodePorts").or_insert(true.into());
    }
}

fn service_port(port: &mut Fields) {
    let target = port.get("targetPort");
    if target.is_none_or(|t| t.as_i64() == Some(0) || t.as_str() == Some(""))
        && let Some(number) = port.get("port").cloned()
    {
        port.insert("targetPort".into(), number);
    }
}

/// `stringData` is a convenience of writers: it goes into `data`, in base64.
fn secret(secret: &mut Fields) {
    let Some(Value::Object(plain)) = secret.remove("stringData") else {
        return;
    };
    let data = secret.entry("data").or_insert_with(|| json!({}));
    for (key, value) in plain {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        data[key] = encoded.into();
    }
}

fn namespace(namespace: &mut Fields) {
    let Some(metadata) = object(namespace, "metadata") else {
        return;
    };
    let name = text(metadata, "name").to_owned();
    if !name.is_empty() {
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        labels["kubernetes.io/metadata.name"] = name.into();
    }
}

fn node_status(status: &mut Fields) {
    if !status.contains_key("allocatable") {
        fill(status, "capacity", "allocatable");
    }
}

fn limit_range_item(item: &mut Fields) {
    if text(item, "type") == "Container" {
        fill(item, "max", "default");
        fill(item, "default", "defaultRequest");
        fill(item, "min", "defaultRequest");
    }
}

fn replication_controller(controller: &mut Fields) {
    let template = controller.get("spec").and_then(|s| s.pointer("/template/metadata/labels"));
    let Some(labels) = template.and_then(Value::as_object).filter(|l| !l.is_empty()).cloned() else {
        return;
    };
    if let Some(spec) = object(controller, "spec") {
        fill_empty(spec, "selector", &labels);
    }
    let metadata = controller.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        fill_empty(metadata, "labels", &labels);
    }
}
