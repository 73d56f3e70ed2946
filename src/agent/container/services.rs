//! Environment variables that tell of Services.

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// The variables of the Services a pod of `namespace` sees: its own namespace's if `links`, and always
/// `kubernetes` of the namespace `default`.
pub(super) fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut seen: Vec<&Service> = services
        .filter(|s| {
            let (ns, name) = (s.metadata.namespace.as_deref(), s.metadata.name.as_deref());
            (links && ns == Some(namespace)) || (ns == Some("default") && name == Some("kubernetes"))
        })
        .collect();
    // The pod's own namespace wins over the default one's `kubernetes`.
    seen.sort_by_key(|s| (s.metadata.namespace.as_deref() == Some(namespace), s.metadata.name.clone()));
    seen.into_iter().flat_map(of_service).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let ip = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None");
    let (Some(ip), Some(first)) = (ip, ports.first()) else { return Vec::new() };
    let name = variable_name(service.metadata.name.as_deref().unwrap_or_default());
    let mut all = vec![
        (format!("{name}_SERVICE_HOST"), ip.to_owned()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            all.push((format!("{name}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string()));
        }
    }
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        let ServicePort { protocol, port, .. } = port;
        let protocol = protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{port}", protocol.to_lowercase());
        if index == 0 {
            all.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{port}_{protocol}");
        all.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{prefix}_PORT"), port.to_string()));
        all.push((format!("{prefix}_ADDR"), ip.to_owned()));
        all.push((prefix, url));
    }
    all
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, spec: serde_json::Value) -> Service {
        let value = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        serde_json::from_value(value).expect("a service")
    }

    #[test]
    fn the_api_server_is_always_there_and_others_only_with_links() {
        let services = [
            service(
                "default",
                "kubernetes",
                json!({"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443}]}),
            ),
            service(
                "ns",
                "my-db",
                json!({"clusterIP": "10.43.0.7", "ports": [{"port": 53, "protocol": "UDP"}]}),
            ),
            service("ns", "headless", json!({"clusterIP": "None", "ports": [{"port": 1}]})),
            service("other", "x", json!({"clusterIP": "10.43.0.8", "ports": [{"port": 1}]})),
        ];
        let get = |links| variables(services.iter(), "ns", links);
        let value = |all: &[(String, String)], name: &str| {
            all.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone())
        };
        let all = get(true);
        assert_eq!(value(&all, "KUBERNETES_SERVICE_HOST").as_deref(), Some("10.43.0.1"));
        assert_eq!(value(&all, "KUBERNETES_SERVICE_PORT_HTTPS").as_deref(), Some("443"));
        assert_eq!(value(&all, "KUBERNETES_PORT_443_TCP_ADDR").as_deref(), Some("10.43.0.1"));
        assert_eq!(value(&all, "MY_DB_PORT").as_deref(), Some("udp://10.43.0.7:53"));
        assert!(!all.iter().any(|(k, _)| k.starts_with("HEADLESS") || k.starts_with("X_")));
        assert!(get(false).iter().all(|(k, _)| k.starts_with("KUBERNETES_")));
    }
}
