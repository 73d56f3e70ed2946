//! networking.k8s.io and discovery.k8s.io.

use super::super::Resource;
use super::super::printers::network;

pub(super) fn entries() -> Vec<Resource> {
    vec![
        networking("IngressClass", "ingressclasses").cluster().columns(network::INGRESS_CLASSES),
        networking("Ingress", "ingresses").short(&["ing"]).status().columns(network::INGRESSES),
        networking("IPAddress", "ipaddresses")
            .cluster()
            .short(&["ip"])
            .names(ip_name)
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

/// The name of an IPAddress is the address in canonical form.
fn ip_name(name: &str) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Ok(address) if address.to_string() == name => Vec::new(),
        Ok(_) => vec!["must be an IP address in canonical form".to_owned()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::ip_name;

    #[test]
    fn names_of_addresses_are_addresses() {
        assert!(ip_name("10.0.0.1").is_empty() && ip_name("2001:db8::1").is_empty());
        assert!(!ip_name("2001:DB8::1").is_empty() && !ip_name("a").is_empty());
    }
}
