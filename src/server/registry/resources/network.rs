//! networking.k8s.io and discovery.k8s.io.

use super::super::Resource;
use super::super::printers::network;
use super::super::strategies::address_name;

pub(super) fn entries() -> Vec<Resource> {
    vec![
        networking("IngressClass", "ingressclasses").cluster().columns(network::INGRESS_CLASSES),
        networking("Ingress", "ingresses").short(&["ing"]).status().columns(network::INGRESSES),
        networking("IPAddress", "ipaddresses")
            .cluster()
            .short(&["ip"])
            .names(address_name)
            .columns(network::IP_ADDRESSES),
        networking("NetworkPolicy", "networkpolicies").short(&["netpol"]).columns(network::NETWORK_POLICIES),
        networking("ServiceCIDR", "servicecidrs").cluster().status().columns(network::SERVICE_CIDRS),
        Resource::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
            .columns(network::ENDPOINT_SLICES),
    ]
}

fn networking(kind: &'static str, plural: &'static str) -> Resource {
    Resource::new("networking.k8s.io", "v1", kind, plural)
}
