//! Nodes: `ValidateNode`, `ValidateNodeUpdate`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::check::{Errors, entries, indexed, is_empty, items, same, text};
use super::ip::{Network, network_warning};
use crate::api::{FieldError, Path, Status, names};
use crate::server::registry::strategy::{Context, Strategy, defaults};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// The strategy of Nodes.
pub struct NodeStrategy;

impl Strategy for NodeStrategy {
    fn prepare_create(&self, _: &Context<'_>, object: &mut Value) -> Result<(), Status> {
        // A node registers with its status.
        one_and_all(&mut object["spec"]);
        Ok(())
    }

    fn validate_create(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::default();
        taints(&object["spec"], &mut errors);
        amounts(object, &mut errors);
        networks(&object["spec"], &mut errors);
        errors.0
    }

    fn prepare_update(&self, _: &Context<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
        defaults::keep(new, old, "status");
        one_and_all(&mut new["spec"]);
        Ok(())
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        update(new, old)
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

    fn validate_subresource(&self, _: &Context<'_>, _: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        update(new, old)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = &object["spec"];
        let mut warnings = Vec::new();
        if !spec["configSource"].is_null() {
            warnings.push("spec.configSource: the feature is no longer supported".to_owned());
        }
        if !is_empty(&spec["externalID"]) {
            let what = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
            warnings.push(what.to_owned());
        }
        let networks = indexed(&spec["podCIDRs"], &Path::new("spec").child("podCIDRs"));
        warnings.extend(networks.filter_map(|(cidr, path)| network_warning(&path, text(cidr))));
        warnings
    }
}

/// `podCIDR` is the first of `podCIDRs`; whoever sets one of them sets both.
fn one_and_all(spec: &mut Value) {
    let (one, all) = (spec["podCIDR"].clone(), spec["podCIDRs"].clone());
    if !is_empty(&one) && all[0] != one {
        spec["podCIDRs"] = json!([one]);
    } else if is_empty(&one) && !is_empty(&all) {
        spec["podCIDR"] = all[0].clone();
    }
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
}

fn taints(spec: &Value, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    // Upstream looks for taints in the spec, and tells of them as if they were in the metadata.
    for (taint, path) in indexed(&spec["taints"], &Path::new("metadata").child("taints")) {
        let key = text(&taint["key"]);
        errors.invalid_all(&path.child("key"), &key.into(), names::qualified_name(key));
        let wrong = names::label_value(text(&taint["value"]));
        if !wrong.is_empty() {
            let value = taint["value"].clone();
            errors.push(FieldError::invalid(&path.child("value"), value, wrong.join(";")));
        }
        errors.one_of(&path.child("effect"), &taint["effect"], &EFFECTS);
        if !seen.insert((key, text(&taint["effect"]))) {
            let mut error = FieldError::duplicate(&path, taint.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
}

fn amounts(node: &Value, errors: &mut Errors) {
    for field in ["capacity", "allocatable"] {
        let path = Path::new("status").child(field);
        for (name, amount) in entries(&node["status"][field]) {
            errors.quantity(&path.child(name), amount);
        }
    }
}

fn networks(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("podCIDRs");
    for (cidr, path) in indexed(&spec["podCIDRs"], &path) {
        errors.network(&path, cidr, &[]);
    }
    let list = items(&spec["podCIDRs"]);
    let families: Vec<bool> =
        list.iter().filter_map(|c| Network::parse(text(c))).map(Network::is_ipv4).collect();
    if list.len() > 2 || matches!(families.as_slice(), [a, b] if a == b) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&path, spec["podCIDRs"].clone(), detail));
    }
}

fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    amounts(new, &mut errors);
    let mut seen: Vec<&Value> = Vec::new();
    for (address, path) in indexed(&new["status"]["addresses"], &Path::new("status").child("addresses")) {
        if seen.contains(&address) {
            errors.push(FieldError::duplicate(&path, address.clone()));
        }
        seen.push(address);
    }
    let (spec, was, path) = (&new["spec"], &old["spec"], Path::new("spec"));
    if !is_empty(&was["podCIDRs"]) && !same(&spec["podCIDRs"], &was["podCIDRs"]) {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("podCIDRs"), detail));
    }
    if !is_empty(&was["providerID"]) && !same(&spec["providerID"], &was["providerID"]) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("providerID"), detail));
    }
    taints(spec, &mut errors);
    if !same(&spec["externalID"], &was["externalID"]) {
        errors.push(FieldError::forbidden(&path.child("externalID"), "may not be updated"));
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;

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
            "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair"
        );
        let bad = with(|cx| {
            NodeStrategy.validate_create(cx, &node(json!({"taints": [{"key": "a", "effect": "No"}]})))
        });
        assert!(bad[0].to_string().starts_with("metadata.taints[0].effect: Unsupported value: \"No\""));
        let (old, new) = (
            node(json!({"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]})),
            node(json!({"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24"]})),
        );
        let errors = with(|cx| NodeStrategy.validate_update(cx, &new, &old));
        assert_eq!(
            errors[0].to_string(),
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"
        );
        assert!(with(|cx| NodeStrategy.validate_update(cx, &old, &node(json!({})))).is_empty());
    }

    #[test]
    fn the_two_fields_of_pod_networks_agree() {
        let filled = |mut spec: Value| {
            one_and_all(&mut spec);
            spec
        };
        let both = json!({"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]});
        assert_eq!(filled(json!({"podCIDR": "10.42.0.0/24"})), both);
        assert_eq!(filled(json!({"podCIDRs": ["10.42.0.0/24"]})), both);
        assert_eq!(filled(json!({"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.1.0/24"]})), both);
        assert_eq!(filled(json!({})), json!({}));
    }

    #[test]
    fn networks_and_addresses_of_nodes() {
        let node = json!({"spec": {"podCIDRs": ["10.42.0.0/24", "10.42.1.0/24"]}, "status": {"capacity": {"cpu": "-1"},
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "Hostname", "address": "n"}]}});
        let texts = |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts(with(|cx| NodeStrategy.validate_create(cx, &node))),
            [
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.podCIDRs: Invalid value: [\"10.42.0.0/24\",\"10.42.1.0/24\"]: may specify no more than one CIDR for each IP family"
            ]
        );
        assert_eq!(
            texts(with(|cx| NodeStrategy.validate_subresource(cx, "status", &node, &node)))[1],
            "status.addresses[1]: Duplicate value: {\"address\":\"n\",\"type\":\"Hostname\"}"
        );
    }
}
