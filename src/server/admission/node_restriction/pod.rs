//! What a node does to pods.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::{Attributes, Operation};
use crate::api::field::quote;
use crate::api::{GroupResource, Meta, Status};
use crate::server::auth::authz::references::{self, Kind};

/// The annotation of pods that a node made of its own manifests.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The pod is bound to the node.
pub(super) fn is_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"].as_str() == Some(node)
}

/// A pod of the request's namespace.
///
/// # Errors
/// 404.
pub(super) fn existing(attributes: &Attributes<'_>, name: &str) -> Result<Value, Status> {
    let pod = attributes.reader.get("pods", attributes.namespace, name);
    pod.map(|pod| pod.value()).ok_or_else(|| Status::not_found(&GroupResource::new("", "pods"), name))
}

/// Making and deleting pods.
pub(super) fn main(attributes: &Attributes<'_>, node: &str) -> Result<Option<String>, Status> {
    let this = quote(node);
    match (attributes.operation, attributes.object.as_deref()) {
        (Operation::Create, Some(pod)) => create(attributes, pod, node),
        (Operation::Delete, _) => {
            let pod = existing(attributes, attributes.name)?;
            Ok((!is_on(&pod, node))
                .then(|| format!("node {this} can only delete pods with spec.nodeName set to itself")))
        }
        _ => Ok(Some(format!(
            "unexpected operation \"UPDATE\", node {this} can only create and delete mirror pods"
        ))),
    }
}

/// Only mirror pods, owned by the node, that name nothing the node could read by them.
fn create(attributes: &Attributes<'_>, pod: &Value, node: &str) -> Result<Option<String>, Status> {
    let this = quote(node);
    if Meta::of(pod).annotation(MIRROR).is_none() {
        let mirror = quote(MIRROR);
        return Ok(Some(format!(
            "pod does not have {mirror} annotation, node {this} can only create mirror pods"
        )));
    }
    if !is_on(pod, node) {
        return Ok(Some(format!("node {this} can only create pods with spec.nodeName set to itself")));
    }
    if let Some(why) = owner(attributes, pod, node)? {
        return Ok(Some(why));
    }
    let spec = &pod["spec"];
    let account = spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty());
    let named = [
        (account, "a service account"),
        (references::any(pod, Kind::Secret), "secrets"),
        (references::any(pod, Kind::ConfigMap), "configmaps"),
        (references::trust_bundles(pod), "clustertrustbundles"),
        (references::any(pod, Kind::Claim), "persistentvolumeclaims"),
    ];
    let what = named.iter().find(|(found, _)| *found);
    Ok(what.map(|(_, what)| format!("node {this} can not create pods that reference {what}")))
}

fn owner(attributes: &Attributes<'_>, pod: &Value, node: &str) -> Result<Option<String>, Status> {
    let this = quote(node);
    let owners = pod["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let only = "can only create pods with";
    let owner = match owners {
        [] => return Ok(Some(format!("node {this} {only} an owner reference set to itself"))),
        [one] => one,
        _ => return Ok(Some(format!("node {this} {only} a single owner reference set to itself"))),
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return Ok(Some(format!("node {this} {only} an owner reference set to itself")));
    }
    if owner["controller"] != true {
        return Ok(Some(format!("node {this} {only} a controller owner reference set to itself")));
    }
    if owner["blockOwnerDeletion"] == true {
        return Ok(Some(format!("node {this} must not set blockOwnerDeletion on an owner reference")));
    }
    let of = attributes.reader.get("nodes", None, node);
    let of = of.ok_or_else(|| Status::not_found(&GroupResource::new("", "nodes"), node))?;
    let given = owner["uid"].as_str().unwrap_or_default();
    Ok((of.uid() != given).then(|| format!("node {node} UID mismatch: expected {given} got {}", of.uid())))
}

/// Reporting how a pod is.
pub(super) fn status(attributes: &Attributes<'_>, node: &str) -> Option<String> {
    let this = quote(node);
    let (new, old) = (attributes.object.as_deref()?, attributes.old?);
    if !is_on(old, node) {
        return Some(format!(
            "node {this} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let labels = |pod: &Value| -> BTreeMap<String, String> {
        Meta::of(pod).labels().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    if labels(new) != labels(old) {
        return Some(format!("node {this} cannot update labels through pod status"));
    }
    let claims = |pod: &Value| pod["status"]["resourceClaimStatuses"].clone();
    (!super::super::same(&claims(new), &claims(old)))
        .then(|| format!("node {this} cannot update resource claim statues"))
}

/// Evicting a pod.
pub(super) fn eviction(attributes: &Attributes<'_>, node: &str) -> Result<Option<String>, Status> {
    if attributes.operation != Operation::Create {
        return Ok(Some("unexpected operation UPDATE".to_owned()));
    }
    let pod = existing(attributes, attributes.name)?;
    Ok((!is_on(&pod, node))
        .then(|| format!("node {node} can only evict pods with spec.nodeName set to itself")))
}
