//! What a Service costs.

use serde_json::Value;

use super::{Amounts, ONE};
use crate::api::Quantity;
use crate::api::quantity::Format;

/// What Services are charged for, beside their count.
pub const RESOURCES: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];

/// The cost. Node ports are counted by intent: they may not be allocated yet.
pub fn usage(service: &Value) -> Amounts {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let kind = spec["type"].as_str().unwrap_or_default();
    let balanced = kind == "LoadBalancer";
    let node_ports = match kind {
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => {
            ports.iter().filter(|p| p["nodePort"].as_i64().unwrap_or_default() != 0).count()
        }
        "LoadBalancer" | "NodePort" => ports.len(),
        _ => 0,
    };
    let number = |n: usize| Quantity::from_units(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSi);
    Amounts::from([
        ("services".to_owned(), ONE()),
        ("services.nodeports".to_owned(), number(node_ports)),
        ("services.loadbalancers".to_owned(), number(usize::from(balanced))),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::list;
    use super::*;
    use serde_json::json;

    #[test]
    fn node_ports_and_load_balancers_are_counted() {
        for (spec, ports, balancers) in [
            (json!({"type": "ClusterIP", "ports": [{}]}), "0", "0"),
            (json!({"type": "NodePort", "ports": [{}, {}]}), "2", "0"),
            (json!({"type": "LoadBalancer", "ports": [{}, {}]}), "2", "1"),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 30000}, {}]}),
                "1",
                "1",
            ),
        ] {
            let usage = list(&usage(&json!({"spec": spec})));
            assert_eq!(
                usage,
                json!({"services": "1", "services.nodeports": ports, "services.loadbalancers": balancers})
            );
        }
    }
}
