//! NodeRestriction: a node changes only its own Node and the pods bound to it.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>.
//! What a node may read is [the node authorizer's](crate::server::auth::authz::node) matter.

mod labels;
mod pod;

use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::api::field::quote;
use crate::api::{Meta, Status};

const LEASES: &str = "kube-node-lease";

/// The plugin.
pub struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(node) = attributes.user.node_name() else { return Ok(()) };
        if attributes.operation == Operation::Connect {
            return Ok(());
        }
        let resource = attributes.resource.group_resource().to_string();
        let why = match (resource.as_str(), attributes.subresource) {
            ("pods", None) => pod::main(attributes, node)?,
            ("pods", Some("status")) => pod::status(attributes, node),
            ("pods", Some("eviction")) => pod::eviction(attributes, node)?,
            ("pods", Some(other)) => Some(format!(
                "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                quote(other)
            )),
            ("nodes", _) => own_node(attributes, node),
            ("persistentvolumeclaims", Some("status")) => claim_status(attributes, node),
            ("persistentvolumeclaims", _) => Some("may only update PVC status".to_owned()),
            ("serviceaccounts", Some("token")) if attributes.operation == Operation::Create => {
                token(attributes, node)?
            }
            ("leases.coordination.k8s.io", _) => lease(attributes, node),
            ("csinodes.storage.k8s.io", _) => (own_name(attributes) != node)
                .then(|| "can only access CSINode with the same name as the requesting node".to_owned()),
            _ => None,
        };
        why.map_or(Ok(()), |why| Err(attributes.forbidden(why)))
    }
}

/// The object's name, also while it is made.
fn own_name<'a>(attributes: &'a Attributes<'_>) -> &'a str {
    let given = attributes.object.as_deref().map(Meta::of).map(Meta::name).unwrap_or_default();
    if attributes.name.is_empty() { given } else { attributes.name }
}

fn own_node(attributes: &Attributes<'_>, node: &str) -> Option<String> {
    let (name, this) = (own_name(attributes), quote(node));
    if name != node {
        return Some(format!("node {this} is not allowed to modify node {}", quote(name)));
    }
    let object = attributes.object.as_deref()?;
    let source = |node: &Value| node["spec"]["configSource"].clone();
    match (attributes.operation, attributes.old) {
        (Operation::Create, _) => {
            if !source(object).is_null() {
                return Some(format!(
                    "node {this} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let labels = labels::forbidden(object, None);
            (!labels.is_empty())
                .then(|| format!("node {this} is not allowed to set the following labels: {labels}"))
        }
        (Operation::Update, Some(old)) => {
            if !source(object).is_null() && source(object) != source(old) {
                let what = "is not allowed to update configSource to a new non-nil configSource";
                return Some(format!("node {this} {what}"));
            }
            if !super::same(&object["spec"]["taints"], &old["spec"]["taints"]) {
                return Some(format!("node {this} is not allowed to modify taints"));
            }
            let labels = labels::forbidden(object, Some(old));
            (!labels.is_empty()).then(|| format!("is not allowed to modify labels: {labels}"))
        }
        _ => None,
    }
}

/// Of a claim a node reports how large it became, and nothing else.
fn claim_status(attributes: &Attributes<'_>, node: &str) -> Option<String> {
    let (new, old) = (attributes.object.as_deref()?, attributes.old?);
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        for field in ["resourceVersion", "managedFields"] {
            rest["metadata"].as_object_mut().map(|m| m.remove(field));
        }
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            rest["status"].as_object_mut().map(|s| s.remove(field));
        }
        rest
    };
    (rest(new) != rest(old)).then(|| {
        let what = "is not allowed to update fields other than status.capacity and status.conditions";
        format!("node {} {what}", quote(node))
    })
}

fn lease(attributes: &Attributes<'_>, node: &str) -> Option<String> {
    if attributes.namespace != Some(LEASES) {
        return Some(format!("can only access leases in the {} system namespace", quote(LEASES)));
    }
    (own_name(attributes) != node)
        .then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

/// Tokens only for pods on the node.
fn token(attributes: &Attributes<'_>, node: &str) -> Result<Option<String>, Status> {
    let Some(request) = attributes.object.as_deref() else { return Ok(None) };
    let bound = &request["spec"]["boundObjectRef"];
    let text = |field: &str| bound[field].as_str().unwrap_or_default();
    let (name, uid) = (text("name"), text("uid"));
    if text("apiVersion") != "v1" || text("kind") != "Pod" || name.is_empty() {
        return Ok(Some("node requested token not bound to a pod".to_owned()));
    }
    if uid.is_empty() {
        return Ok(Some("node requested token with a pod binding without a uid".to_owned()));
    }
    let pod = pod::existing(attributes, name)?;
    if Meta::of(&pod).uid() != uid {
        return Ok(Some(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        )));
    }
    Ok((!pod::is_on(&pod, node))
        .then(|| "node requested token bound to a pod scheduled on a different node".to_owned()))
}

#[cfg(test)]
mod tests;
