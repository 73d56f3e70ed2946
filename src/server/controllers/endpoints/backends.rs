//! The endpoints behind a Service: which pods, at which ports, in which state. Pure functions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::slices::Group;
use crate::server::controllers::kit::meta;
use crate::server::controllers::kit::pod::Pod;

/// The Service is headless: it has no address of its own.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

/// The selector, if the Service has one and is not a mere name for something outside.
pub fn selector(service: &Service) -> Option<&meta::Labels> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|s| !s.is_empty())
}

/// Whether a selector of equalities selects labels.
pub fn selects(selector: &meta::Labels, labels: &meta::Labels) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

/// Pods that are not ready count as well.
pub fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false)
}

/// The pod has an address and has not ended.
pub fn has_address(pod: &Pod) -> bool {
    !pod.is_finished() && !addresses(pod).is_empty()
}

/// All addresses of a pod.
pub fn addresses(pod: &Pod) -> Vec<&str> {
    if pod.status.pod_ips.is_empty() {
        pod.status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).into_iter().collect()
    } else {
        pod.status.pod_ips.iter().map(|ip| ip.ip.as_str()).collect()
    }
}

/// The number a Service's port has on a pod.
pub fn find_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.target_port {
        Some(IntOrString::Int(0)) | None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let sidecar =
                |c: &&super::super::kit::pod::Container| c.restart_policy.as_deref() == Some("Always");
            let containers =
                pod.spec.containers.iter().chain(pod.spec.init_containers.iter().filter(sidecar));
            let mut ports = containers.flat_map(|c| &c.ports);
            ports
                .find(|p| {
                    p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|p| p.container_port)
        }
    }
}

/// The host name a pod has below a headless Service.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let host = pod.spec.hostname.clone().filter(|h| !h.is_empty())?;
    (pod.spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace)
        .then_some(host)
}

/// A reference to a pod.
pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

fn ports(pod: &Pod, service: &Service) -> Vec<EndpointPort> {
    let wanted = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let port = |p: &ServicePort| {
        Some(EndpointPort {
            name: Some(p.name.clone().unwrap_or_default()),
            port: Some(find_port(pod, p)?),
            protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: p.app_protocol.clone(),
        })
    };
    wanted.iter().filter_map(port).collect()
}

/// The address types of a Service's slices, `IPv4` and `IPv6`.
pub fn address_types(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|s| s.ip_families.clone()).unwrap_or_default();
    if !families.is_empty() {
        return families;
    }
    let address = spec.and_then(|s| s.cluster_ip.as_deref()).and_then(|ip| ip.parse::<IpAddr>().ok());
    vec![if address.is_some_and(|a| a.is_ipv6()) { "IPv6" } else { "IPv4" }.to_owned()]
}

/// The address type of an address.
pub fn address_type(address: &str) -> Option<&'static str> {
    match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

/// The endpoints of a Service in groups of one address type and the same ports. `zone` gives the
/// zone of a node.
pub fn groups(service: &Service, pods: &[Arc<Pod>], zone: impl Fn(&str) -> Option<String>) -> Vec<Group> {
    let types = address_types(service);
    let unready = publishes_unready(service);
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    for pod in pods.iter().filter(|p| has_address(p)) {
        let ports = ports(pod, service);
        let key = serde_json::to_string(&ports).unwrap_or_default();
        for kind in &types {
            let addresses: Vec<String> = addresses(pod)
                .into_iter()
                .filter(|a| address_type(a) == Some(kind.as_str()))
                .map(str::to_owned)
                .take(1)
                .collect();
            if addresses.is_empty() {
                continue;
            }
            let (serving, terminating) = (pod.is_ready(), pod.is_terminating());
            let endpoint = Endpoint {
                addresses,
                conditions: Some(EndpointConditions {
                    ready: Some(unready || (serving && !terminating)),
                    serving: Some(serving),
                    terminating: Some(terminating),
                }),
                hostname: hostname(pod, service),
                node_name: pod.node().map(str::to_owned),
                target_ref: Some(target(pod)),
                zone: pod.node().and_then(&zone),
                ..Default::default()
            };
            let group = groups.entry((kind.clone(), key.clone())).or_insert_with(|| Group {
                address_type: kind.clone(),
                ports: ports.clone(),
                endpoints: Vec::new(),
            });
            group.endpoints.push(endpoint);
        }
    }
    groups.into_values().collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A Service of these spec fields.
    pub fn service(spec: Value) -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "n", "uid": "s"}, "spec": spec}),
        )
        .expect("a service")
    }

    /// A pod with an address.
    pub fn pod(name: &str, ip: &str, ready: bool, change: Value) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": status}]}
        });
        json_patch::merge(&mut pod, &change);
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn named() -> Value {
        json!({"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]})
    }

    fn conditions(e: &Endpoint) -> (bool, bool, bool) {
        let c = e.conditions.clone().unwrap_or_default();
        (c.ready == Some(true), c.serving == Some(true), c.terminating == Some(true))
    }

    #[test]
    fn endpoints_tell_their_state_node_and_zone() {
        let deleted = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}});
        let pods = [
            pod("a", "10.0.0.1", true, json!({})),
            pod("b", "10.0.0.2", false, json!({})),
            pod("c", "10.0.0.3", true, deleted),
            pod("d", "10.0.0.4", true, json!({"status": {"phase": "Succeeded"}})),
            pod("e", "", true, json!({"status": {"podIP": null, "podIPs": null}})),
        ];
        let groups = groups(&service(named()), &pods, |node| Some(format!("zone-of-{node}")));
        assert_eq!(groups.len(), 1);
        let states: Vec<_> = groups[0].endpoints.iter().map(conditions).collect();
        assert_eq!(states, [(true, true, false), (false, false, false), (false, true, true)]);
        let first = &groups[0].endpoints[0];
        assert_eq!((first.zone.as_deref(), first.node_name.as_deref()), (Some("zone-of-a"), Some("a")));
        assert_eq!(groups[0].ports[0].port, Some(8080));
    }

    #[test]
    fn unready_pods_are_published_on_request() {
        let mut spec = named();
        spec["publishNotReadyAddresses"] = json!(true);
        let groups = groups(&service(spec), &[pod("b", "10.0.0.2", false, json!({}))], |_| None);
        assert_eq!(conditions(&groups[0].endpoints[0]), (true, false, false));
    }

    #[test]
    fn pods_with_other_numbers_for_a_name_form_another_group() {
        let other = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 9090}]}]}});
        let pods = [pod("a", "10.0.0.1", true, json!({})), pod("b", "10.0.0.2", true, other)];
        assert_eq!(groups(&service(named()), &pods, |_| None).len(), 2);
    }

    #[test]
    fn two_families_make_two_groups() {
        let mut spec = named();
        spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        let both = json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}});
        let groups = groups(&service(spec), &[pod("a", "10.0.0.1", true, both)], |_| None);
        let types: Vec<_> = groups.iter().map(|g| g.address_type.as_str()).collect();
        assert_eq!(types, ["IPv4", "IPv6"]);
    }

    #[test]
    fn host_names_count_below_their_own_service() {
        let p = pod("a", "10.0.0.1", true, json!({"spec": {"hostname": "h", "subdomain": "web"}}));
        assert_eq!(hostname(&p, &service(named())).as_deref(), Some("h"));
        let q = pod("a", "10.0.0.1", true, json!({"spec": {"hostname": "h", "subdomain": "other"}}));
        assert_eq!(hostname(&q, &service(named())), None);
        assert!(selector(&service(json!({"type": "ExternalName", "selector": {"a": "b"}}))).is_none());
    }
}
