//! Columns of Services, endpoints, ingresses and network policies.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, NONE, int_at, items, join_or_none, label_selector, labels, text_at, texts};

/// Columns of Services.
pub const SERVICES: &[Column] = &[
    NAME,
    Column::text("Type", "How the Service is exposed.", |o, _| text_at(o, "/spec/type", "ClusterIP").into()),
    Column::text("Cluster-IP", "The Service's address in the cluster.", |o, _| {
        text_at(o, "/spec/clusterIP", NONE).into()
    }),
    Column::text("External-IP", "Addresses from outside the cluster.", |o, _| external_ip(o).into()),
    Column::text("Port(s)", "Ports of the Service.", |o, _| service_ports(o).into()),
    AGE,
    Column::text("Selector", "Labels of the pods behind it.", |o, _| {
        labels(o.pointer("/spec/selector")).into()
    })
    .wide(),
];

/// Columns of Endpoints.
pub const ENDPOINTS: &[Column] = &[
    NAME,
    Column::text("Endpoints", "The addresses and ports that are ready.", |o, _| endpoints(o).into()),
    AGE,
];

/// Columns of endpoint slices.
pub const ENDPOINT_SLICES: &[Column] = &[
    NAME,
    Column::text("AddressType", "Type of the addresses.", |o, _| o["addressType"].clone()),
    Column::text("Ports", "Ports of each endpoint.", |o, _| slice_ports(o).into()),
    Column::text("Endpoints", "Addresses of the endpoints.", |o, _| {
        let list: Vec<&str> =
            items(o, "/endpoints").iter().flat_map(|e| texts(items(e, "/addresses"))).collect();
        shortened(&list, "<unset>").into()
    }),
    AGE,
];

/// Columns of ingresses.
pub const INGRESSES: &[Column] = &[
    NAME,
    Column::text("Class", "The class that serves it.", |o, _| {
        let annotation = text_at(o, "/metadata/annotations/kubernetes.io~1ingress.class", NONE);
        text_at(o, "/spec/ingressClassName", annotation).into()
    }),
    Column::text("Hosts", "Hosts that incoming requests are matched against.", |o, _| hosts(o).into()),
    Column::text("Address", "Addresses of the load balancer.", |o, _| {
        let mut list = load_balancer(o);
        list.sort_unstable();
        list.dedup();
        list.join(",").into()
    }),
    Column::text("Ports", "Ports that are open.", |o, _| {
        if items(o, "/spec/tls").is_empty() { "80" } else { "80, 443" }.into()
    }),
    AGE,
];

/// Columns of ingress classes.
pub const INGRESS_CLASSES: &[Column] = &[
    NAME,
    Column::text("Controller", "The controller that serves the class.", |o, _| {
        o["spec"]["controller"].clone()
    }),
    Column::text("Parameters", "Where its parameters are.", |o, _| {
        let Some(parameters) = o.pointer("/spec/parameters").filter(|p| p.is_object()) else {
            return json!(NONE);
        };
        let (kind, name) = (text_at(parameters, "/kind", ""), text_at(parameters, "/name", ""));
        match text_at(parameters, "/apiGroup", "") {
            "" => json!(format!("{kind}/{name}")),
            group => json!(format!("{kind}.{group}/{name}")),
        }
    }),
    AGE,
];

/// Columns of network policies.
pub const NETWORK_POLICIES: &[Column] = &[
    NAME,
    Column::text("Pod-Selector", "The pods it applies to.", |o, _| {
        label_selector(o.pointer("/spec/podSelector")).into()
    }),
    AGE,
];

/// Columns of allocated cluster addresses.
pub const IP_ADDRESSES: &[Column] = &[
    NAME,
    Column::text("ParentRef", "What holds the address.", |o, _| {
        let parent = &o["spec"]["parentRef"];
        let part = |p: &str| text_at(parent, p, "").to_owned();
        let list = [part("/group"), part("/resource"), part("/namespace"), part("/name")];
        let parts: Vec<&str> = list.iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
        parts.join("/").into()
    }),
    AGE,
];

/// Columns of Service networks.
pub const SERVICE_CIDRS: &[Column] = &[
    NAME,
    Column::text("CIDRs", "The networks.", |o, _| texts(items(o, "/spec/cidrs")).join(",").into()),
    AGE,
];

fn load_balancer(object: &Value) -> Vec<&str> {
    items(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|i| text_at(i, "/ip", text_at(i, "/hostname", "")))
        .filter(|a| !a.is_empty())
        .collect()
}

fn external_ip(service: &Value) -> String {
    let external = texts(items(service, "/spec/externalIPs"));
    match text_at(service, "/spec/type", "ClusterIP") {
        "LoadBalancer" => {
            let mut list = load_balancer(service);
            list.extend(external);
            if list.is_empty() { "<pending>".to_owned() } else { list.join(",") }
        }
        "ExternalName" => text_at(service, "/spec/externalName", NONE).to_owned(),
        _ => join_or_none(&external, ","),
    }
}

fn service_ports(service: &Value) -> String {
    let list: Vec<String> = items(service, "/spec/ports")
        .iter()
        .map(|p| {
            let (port, protocol) = (int_at(p, "/port"), text_at(p, "/protocol", "TCP"));
            match int_at(p, "/nodePort") {
                0 => format!("{port}/{protocol}"),
                node => format!("{port}:{node}/{protocol}"),
            }
        })
        .collect();
    if list.is_empty() { NONE.to_owned() } else { list.join(",") }
}

/// The first three, and how many more.
fn shortened(list: &[impl AsRef<str>], none: &str) -> String {
    let first: Vec<&str> = list.iter().take(3).map(AsRef::as_ref).collect();
    match list.len() {
        0 => none.to_owned(),
        1..=3 => first.join(","),
        all => format!("{} + {} more...", first.join(","), all - 3),
    }
}

fn endpoints(object: &Value) -> String {
    let mut list = Vec::new();
    for subset in items(object, "/subsets") {
        let ports = items(subset, "/ports");
        for address in items(subset, "/addresses") {
            let ip = text_at(address, "/ip", "");
            let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            if ports.is_empty() {
                list.push(ip.to_owned());
            }
            list.extend(ports.iter().map(|p| format!("{host}:{}", int_at(p, "/port"))));
        }
    }
    shortened(&list, NONE)
}

fn slice_ports(slice: &Value) -> String {
    let list: Vec<String> = items(slice, "/ports")
        .iter()
        .map(|p| match p.get("port").and_then(Value::as_i64) {
            Some(port) => port.to_string(),
            None => text_at(p, "/name", "*").to_owned(),
        })
        .collect();
    shortened(&list, "<unset>")
}

fn hosts(ingress: &Value) -> String {
    let list: Vec<&str> = items(ingress, "/spec/rules")
        .iter()
        .map(|r| text_at(r, "/host", ""))
        .filter(|h| !h.is_empty())
        .collect();
    shortened(&list, "*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::Clock;

    fn row(columns: &[Column], object: &Value) -> Value {
        let clock = Clock("2026-01-01T01:00:00Z".parse().expect("a constant"));
        columns.iter().map(|c| (c.cell)(object, &clock)).collect()
    }

    #[test]
    fn services_of_each_type() {
        let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIP": "10.43.0.9",
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            "selector": {"a": "b"}}});
        assert_eq!(
            row(SERVICES, &service),
            json!(["s", "NodePort", "10.43.0.9", NONE, "80:30080/TCP,53/UDP", "<unknown>", "a=b"])
        );
        assert_eq!(external_ip(&json!({"spec": {"type": "LoadBalancer"}})), "<pending>");
        let ready = json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
        assert_eq!(external_ip(&ready), "1.2.3.4");
        assert_eq!(external_ip(&json!({"spec": {"type": "ExternalName", "externalName": "x.y"}})), "x.y");
    }

    #[test]
    fn endpoints_are_shortened_after_three() {
        let subset = |n: usize| {
            let list: Vec<Value> = (1..=n).map(|i| json!({"ip": format!("10.0.0.{i}")})).collect();
            json!({"subsets": [{"addresses": list, "ports": [{"port": 80}]}]})
        };
        assert_eq!(endpoints(&subset(0)), NONE);
        assert_eq!(endpoints(&subset(2)), "10.0.0.1:80,10.0.0.2:80");
        assert_eq!(endpoints(&subset(5)), "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
    }

    #[test]
    fn an_ingress() {
        let ingress = json!({"metadata": {"name": "i"}, "spec": {"ingressClassName": "k", "tls": [{}],
            "rules": [{"host": "a.b"}, {}]}});
        assert_eq!(row(INGRESSES, &ingress), json!(["i", "k", "a.b", "", "80, 443", "<unknown>"]));
    }
}
