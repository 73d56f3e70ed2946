//! TaintNodesByCondition: nothing is scheduled on a new node before it is ready.

use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::api::Status;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if !attributes.is("nodes") || attributes.operation != Operation::Create {
            return Ok(());
        }
        let Some(node) = attributes.object.as_deref_mut() else { return Ok(()) };
        let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        if !taints.iter().any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule") {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        node["spec"]["taints"] = json!(taints);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;

    #[test]
    fn a_new_node_is_tainted_once() {
        let request = Request::create("Node", "nodes");
        let fake = Fake::default();
        let once = request.admit(&TaintNodesByCondition, &fake, json!({"metadata": {"name": "n"}})).unwrap();
        assert_eq!(
            once["spec"]["taints"],
            json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
        );
        assert_eq!(request.admit(&TaintNodesByCondition, &fake, once.clone()).unwrap(), once);
    }
}
