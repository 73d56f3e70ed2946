//! Nodes: `ValidateNode`, `ValidateNodeUpdate`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::check::{Errors, indexed, is_empty, items, same, text};
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy, defaults};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// The strategy of Nodes.
pub struct NodeStrategy;

impl Strategy for NodeStrategy {
    fn prepare_create(&self, _: &Context<'_>, _: &mut Value) -> Result<(), Status> {
        // A node registers with its status.
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        validate(object)
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate(new);
        let (spec, was, path) = (&new["spec"], &old["spec"], Path::new("spec"));
        if !is_empty(&was["podCIDR"]) && !same(&spec["podCIDR"], &was["podCIDR"]) {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("podCIDRs"), detail));
        }
        if !is_empty(&was["providerID"]) && !same(&spec["providerID"], &was["providerID"]) {
            let detail = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("providerID"), detail));
        }
        errors
    }

    fn prepare_subresource(
        &self,
        _: &Context<'_>,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if subresource == "status" {
            // As upstream: a node's agent keeps its labels and annotations by the status too.
            defaults::keep(new, old, "spec");
        }
        Ok(())
    }

    fn validate_subresource(&self, _: &Context<'_>, _: &str, new: &Value, _: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        let path = Path::new("status");
        for field in ["capacity", "allocatable"] {
            for (name, amount) in super::check::entries(&new["status"][field]) {
                errors.quantity(&path.child(field).key(name), amount);
            }
        }
        errors.0
    }
}

fn validate(node: &Value) -> Vec<FieldError> {
    let (spec, path) = (&node["spec"], Path::new("spec"));
    let mut errors = Errors::default();
    let mut seen = BTreeSet::new();
    for (taint, path) in indexed(&spec["taints"], &path.child("taints")) {
        errors.invalid_all(&path.child("key"), &taint["key"], names::qualified_name(text(&taint["key"])));
        let value = &taint["value"];
        errors.invalid_all(&path.child("value"), value, names::label_value(text(value)));
        errors.one_of(&path.child("effect"), &taint["effect"], &EFFECTS);
        if !seen.insert((text(&taint["key"]), text(&taint["effect"]))) {
            let mut error = FieldError::duplicate(&path, taint.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
    let cidrs = items(&spec["podCIDRs"]);
    for (cidr, path) in indexed(&spec["podCIDRs"], &path.child("podCIDRs")) {
        let network = text(cidr).split_once('/');
        let ok = network
            .is_some_and(|(ip, bits)| ip.parse::<std::net::IpAddr>().is_ok() && bits.parse::<u8>().is_ok());
        if !ok {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(&path, cidr.clone(), detail));
        }
    }
    if cidrs.len() > 2 {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&path.child("podCIDRs"), spec["podCIDRs"].clone(), detail));
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;
    use serde_json::json;

    fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
        run(&Context { user: &User::loopback(), namespace: None, reader: &Fake::default(), dry_run: false })
    }

    #[test]
    fn a_node_registers_with_its_status_and_later_keeps_spec_and_status_apart() {
        let mut node = json!({"metadata": {"name": "n"}, "spec": {}, "status": {"capacity": {"cpu": "2"}}});
        let before = node.clone();
        with(|cx| NodeStrategy.prepare_create(cx, &mut node)).unwrap();
        assert_eq!(node, before);
        let mut status = json!({"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"unschedulable": true}, "status": {"x": 1}});
        with(|cx| NodeStrategy.prepare_subresource(cx, "status", &mut status, &node)).unwrap();
        assert_eq!(
            status,
            json!({"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {}, "status": {"x": 1}})
        );
    }

    #[test]
    fn taints_are_unique_and_addresses_stay() {
        let node = |spec: Value| json!({"metadata": {"name": "n"}, "spec": spec});
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        let twice = with(|cx| NodeStrategy.validate_create(cx, &node(json!({"taints": [taint, taint]}))));
        assert_eq!(
            twice[0].to_string(),
            "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair"
        );
        let bad = with(|cx| {
            NodeStrategy.validate_create(cx, &node(json!({"taints": [{"key": "a", "effect": "No"}]})))
        });
        assert!(bad[0].to_string().starts_with("spec.taints[0].effect: Unsupported value: \"No\""));
        let (old, new) = (node(json!({"podCIDR": "10.42.0.0/24"})), node(json!({"podCIDR": "10.42.1.0/24"})));
        let errors = with(|cx| NodeStrategy.validate_update(cx, &new, &old));
        assert_eq!(
            errors[0].to_string(),
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"
        );
        assert!(with(|cx| NodeStrategy.validate_update(cx, &old, &node(json!({})))).is_empty());
    }
}
