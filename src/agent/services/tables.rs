//! From Services and EndpointSlices to the tables of service proxy and DNS: pure functions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort as ApiPort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::network::dns::table::{DnsEndpoint, DnsPort, DnsService, DnsTable};
use crate::network::table::{Protocol, ServiceEndpoint, ServicePort, ServicePortName, ServiceTable};

/// What the tables are made from.
pub(super) struct Cluster<'a> {
    pub services: Vec<Arc<Service>>,
    pub slices: Vec<Arc<EndpointSlice>>,
    /// This node.
    pub node: &'a str,
    /// The address at which this node answers DNS itself.
    pub local_dns: IpAddr,
}

type Slices<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>;

fn protocol(name: Option<&str>) -> Protocol {
    match name {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|p| *p > 0)
}

fn parse(addresses: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<IpAddr> {
    addresses.into_iter().filter_map(|a| a.as_ref().parse().ok()).collect()
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    match &spec.cluster_ips {
        Some(ips) if !ips.is_empty() => parse(ips),
        _ => parse(spec.cluster_ip.iter()),
    }
}

impl Cluster<'_> {
    /// Both tables.
    pub(super) fn tables(&self) -> (ServiceTable, DnsTable) {
        let mut by_service: Slices<'_> = BTreeMap::new();
        for slice in &self.slices {
            let labels = slice.metadata.labels.as_ref();
            let service = labels.and_then(|l| l.get("kubernetes.io/service-name"));
            if let (Some(namespace), Some(service)) = (&slice.metadata.namespace, service)
                && slice.address_type != "FQDN"
            {
                by_service.entry((namespace, service)).or_default().push(slice);
            }
        }
        let (mut services, mut dns) = (ServiceTable::default(), DnsTable::default());
        for service in &self.services {
            let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else {
                continue;
            };
            let slices = by_service.get(&(namespace.as_str(), name.as_str())).map_or(&[][..], Vec::as_slice);
            let Some(spec) = &service.spec else { continue };
            if let Some(entry) = dns_service(spec, slices) {
                dns.services.entry(namespace.clone()).or_default().insert(name.clone(), entry);
            }
            self.proxied(service, spec, slices, &mut services);
        }
        (services, dns)
    }

    fn proxied(
        &self,
        service: &Service,
        spec: &ServiceSpec,
        slices: &[&EndpointSlice],
        table: &mut ServiceTable,
    ) {
        let labels = service.metadata.labels.as_ref();
        let other_proxy = labels.is_some_and(|l| l.contains_key("service.kubernetes.io/service-proxy-name"));
        let cluster_ips = cluster_ips(spec);
        let external_name = spec.type_.as_deref() == Some("ExternalName");
        // The DNS address is this process's own.
        if other_proxy || external_name || cluster_ips.is_empty() || cluster_ips.contains(&self.local_dns) {
            return;
        }
        let ingress =
            service.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|l| l.ingress.as_ref());
        let external = spec.external_ips.iter().flatten().map(String::as_str);
        let external = external.chain(ingress.into_iter().flatten().filter_map(|i| i.ip.as_deref()));
        let external_ips = parse(external);
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let affinity_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let configured = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
            configured.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok()).unwrap_or(10_800)
        });
        for api_port in spec.ports.iter().flatten() {
            let Some(number) = port(api_port.port) else { continue };
            let key = ServicePortName {
                namespace: service.metadata.namespace.clone().unwrap_or_default(),
                name: service.metadata.name.clone().unwrap_or_default(),
                port: api_port.name.clone().unwrap_or_default(),
            };
            let entry = ServicePort {
                protocol: protocol(api_port.protocol.as_deref()),
                cluster_ips: cluster_ips.clone(),
                port: number,
                node_port: api_port.node_port.and_then(port),
                external_ips: external_ips.clone(),
                affinity_seconds,
                internal_local: local(&spec.internal_traffic_policy),
                external_local: local(&spec.external_traffic_policy),
                endpoints: self.endpoints(api_port, slices),
            };
            table.ports.insert(key, entry);
        }
    }

    /// Ready endpoints; if there is none, those that still serve while they end.
    fn endpoints(&self, api_port: &ApiPort, slices: &[&EndpointSlice]) -> Vec<ServiceEndpoint> {
        let (mut ready, mut ending) = (Vec::new(), Vec::new());
        for slice in slices {
            let name = api_port.name.as_deref().unwrap_or_default();
            let target = slice.ports.iter().flatten().find(|p| p.name.as_deref().unwrap_or_default() == name);
            let Some(port) = target.and_then(|p| p.port).and_then(port) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                let list = if is_ready(endpoint) {
                    &mut ready
                } else if serves_while_ending(endpoint) {
                    &mut ending
                } else {
                    continue;
                };
                let local = endpoint.node_name.as_deref() == Some(self.node);
                let addresses = parse(endpoint.addresses.first());
                list.extend(addresses.into_iter().map(|address| ServiceEndpoint { address, port, local }));
            }
        }
        let mut all = if ready.is_empty() { ending } else { ready };
        all.sort();
        all.dedup();
        all
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
}

fn serves_while_ending(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.is_some_and(|c| c.serving == Some(true) && c.terminating == Some(true))
}

fn dns_service(spec: &ServiceSpec, slices: &[&EndpointSlice]) -> Option<DnsService> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return spec.external_name.clone().map(DnsService::ExternalName);
    }
    if is_headless(spec) {
        return Some(DnsService::Headless { endpoints: headless(slices) });
    }
    let addresses = cluster_ips(spec);
    let ports = spec.ports.iter().flatten().filter_map(|p| {
        let name = p.name.clone().unwrap_or_default();
        Some(DnsPort { name, protocol: protocol(p.protocol.as_deref()), port: port(p.port)? })
    });
    (!addresses.is_empty()).then(|| DnsService::ClusterIp { addresses, ports: ports.collect() })
}

fn headless(slices: &[&EndpointSlice]) -> Vec<DnsEndpoint> {
    let mut all = Vec::new();
    for slice in slices {
        let ports: Vec<DnsPort> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                let name = p.name.clone().unwrap_or_default();
                Some(DnsPort { name, protocol: protocol(p.protocol.as_deref()), port: port(p.port?)? })
            })
            .collect();
        for endpoint in slice.endpoints.iter().flatten().filter(|e| is_ready(e)) {
            let hostname = endpoint.hostname.clone().filter(|h| !h.is_empty());
            let entries = parse(&endpoint.addresses).into_iter();
            all.extend(entries.map(|address| DnsEndpoint {
                address,
                hostname: hostname.clone(),
                ports: ports.clone(),
            }));
        }
    }
    all.sort_by(|a, b| (a.address, &a.hostname).cmp(&(b.address, &b.hostname)));
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tables(services: &[Value], slices: &[Value]) -> (ServiceTable, DnsTable) {
        let cluster = Cluster {
            services: services
                .iter()
                .map(|s| Arc::new(serde_json::from_value(s.clone()).expect("a service")))
                .collect(),
            slices: slices
                .iter()
                .map(|s| Arc::new(serde_json::from_value(s.clone()).expect("a slice")))
                .collect(),
            node: "n1",
            local_dns: "10.43.0.10".parse().expect("an address"),
        };
        cluster.tables()
    }

    fn service(name: &str, spec: Value) -> Value {
        json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec})
    }

    fn slice(service: &str, endpoints: Value) -> Value {
        json!({"metadata": {"namespace": "ns", "name": "s", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints})
    }

    #[test]
    fn a_service_with_its_ready_endpoints() {
        let web = service(
            "web",
            json!({"clusterIP": "10.43.0.5", "clusterIPs": ["10.43.0.5"], "type": "NodePort",
            "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080, "targetPort": 8080}]}),
        );
        let endpoints = json!([
            {"addresses": ["10.42.0.7"], "nodeName": "n2", "conditions": {"ready": true}},
            {"addresses": ["10.42.0.6"], "nodeName": "n1", "conditions": {"ready": true}},
            {"addresses": ["10.42.0.8"], "nodeName": "n1", "conditions": {"ready": false}}]);
        let (table, dns) = tables(&[web], &[slice("web", endpoints)]);
        let (name, port) = table.ports.iter().next().expect("a port");
        assert_eq!((name.name.as_str(), name.port.as_str()), ("web", "http"));
        assert_eq!((port.port, port.node_port, port.affinity_seconds), (80, Some(30080), Some(10_800)));
        assert!(port.external_local && !port.internal_local);
        let shown: Vec<String> =
            port.endpoints.iter().map(|e| format!("{}:{} {}", e.address, e.port, e.local)).collect();
        assert_eq!(shown, ["10.42.0.6:8080 true", "10.42.0.7:8080 false"]);
        assert!(matches!(dns.services["ns"]["web"], DnsService::ClusterIp { .. }));
    }

    #[test]
    fn endpoints_that_end_serve_only_when_nothing_else_does() {
        let web = service("web", json!({"clusterIP": "10.43.0.5", "ports": [{"name": "http", "port": 80}]}));
        let ending = json!({"addresses": ["10.42.0.8"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let ready = json!({"addresses": ["10.42.0.9"], "conditions": {"ready": true}});
        let count = |endpoints: Value| {
            let (table, _) = tables(std::slice::from_ref(&web), &[slice("web", endpoints)]);
            let port = table.ports.into_values().next().expect("a port");
            port.endpoints.into_iter().map(|e| e.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(count(json!([ending])), ["10.42.0.8"]);
        assert_eq!(count(json!([ending, ready])), ["10.42.0.9"]);
    }

    #[test]
    fn headless_external_and_dns_itself_are_not_proxied() {
        let services = [
            service("h", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
            service("e", json!({"type": "ExternalName", "externalName": "example.org"})),
            service(
                "kube-dns",
                json!({"clusterIP": "10.43.0.10", "ports": [{"port": 53, "protocol": "UDP"}]}),
            ),
        ];
        let endpoints = json!([{"addresses": ["10.42.0.6"], "hostname": "h-0", "conditions": {}}]);
        let (table, dns) = tables(&services, &[slice("h", endpoints)]);
        assert!(table.ports.is_empty());
        let DnsService::Headless { endpoints } = &dns.services["ns"]["h"] else { panic!("headless") };
        assert_eq!((endpoints[0].hostname.as_deref(), endpoints[0].ports[0].port), (Some("h-0"), 8080));
        assert_eq!(dns.services["ns"]["e"], DnsService::ExternalName("example.org".into()));
        assert!(dns.services["ns"].contains_key("kube-dns"));
    }
}
