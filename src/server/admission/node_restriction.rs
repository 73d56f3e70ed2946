//! NodeRestriction: a node changes only its own Node and the pods bound to it.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>

use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::api::field::quote;
use crate::api::{Meta, Status};

/// Labels below this prefix are for administrators only.
const RESTRICTED: &str = "node-restriction.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The plugin.
pub struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(node) = attributes.user.node_name() else { return Ok(()) };
        let why = match (
            attributes.resource.group.as_ref(),
            attributes.resource.plural.as_ref(),
            attributes.subresource,
        ) {
            ("", "nodes", _) => own_node(attributes, node),
            ("", "pods", sub) => pod(attributes, node, sub),
            ("coordination.k8s.io", "leases", _) if attributes.operation == Operation::Create => {
                lease(attributes, node)
            }
            ("", "serviceaccounts", Some("token")) => token(attributes, node),
            _ => None,
        };
        why.map_or(Ok(()), |why| Err(attributes.forbidden(why)))
    }
}

fn own_node(attributes: &Attributes<'_>, node: &str) -> Option<String> {
    let object = attributes.object.as_deref();
    let name = Some(attributes.name).filter(|n| !n.is_empty()).or_else(|| Some(Meta::of(object?).name()));
    if name != Some(node) {
        return Some(format!(
            "node {} is not allowed to modify node {}",
            quote(node),
            quote(name.unwrap_or_default())
        ));
    }
    let object = object?;
    let restricted = |object: &Value| -> Vec<(String, String)> {
        let labels = Meta::of(object)
            .labels()
            .filter(|(k, _)| k.starts_with(RESTRICTED) || k.contains(&format!(".{RESTRICTED}")));
        labels.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let before = attributes.old.map(restricted).unwrap_or_default();
    let changed: Vec<String> =
        restricted(object).into_iter().filter(|l| !before.contains(l)).map(|(k, _)| k).collect();
    if !changed.is_empty() {
        return Some(format!("is not allowed to modify labels: {}", changed.join(", ")));
    }
    let taints = |object: &Value| object["spec"]["taints"].clone();
    let update = attributes.operation == Operation::Update && attributes.subresource.is_none();
    (update && attributes.old.is_some_and(|old| taints(old) != taints(object)))
        .then(|| format!("node {} is not allowed to modify taints", quote(node)))
}

fn pod(attributes: &Attributes<'_>, node: &str, subresource: Option<&str>) -> Option<String> {
    let bound_here = |pod: &Value| pod["spec"]["nodeName"].as_str() == Some(node);
    match (attributes.operation, subresource) {
        (Operation::Create, None) => {
            let pod = attributes.object.as_deref()?;
            if Meta::of(pod).annotation(MIRROR).is_none() {
                let name = quote(node);
                return Some(format!(
                    "pod does not have {} annotation, node {name} can only create mirror pods",
                    quote(MIRROR)
                ));
            }
            (!bound_here(pod)).then(|| {
                format!("node {} can only create pods with spec.nodeName set to itself", quote(node))
            })
        }
        (Operation::Delete, None) => {
            let pod = attributes.reader.get("pods", attributes.namespace, attributes.name)?;
            (!bound_here(&pod.value())).then(|| {
                format!("node {} can only delete pods with spec.nodeName set to itself", quote(node))
            })
        }
        (Operation::Update, Some("status")) => {
            let old = attributes.old?;
            (!bound_here(old)).then(|| {
                format!(
                    "node {} can only update pod status for pods with spec.nodeName set to itself",
                    quote(node)
                )
            })
        }
        (Operation::Create, Some("eviction")) => {
            let pod = attributes.reader.get("pods", attributes.namespace, attributes.name)?;
            (!bound_here(&pod.value()))
                .then(|| format!("node {} can only evict pods with spec.nodeName set to itself", quote(node)))
        }
        (Operation::Update, None) => Some("unexpected operation \"UPDATE\"".to_owned()),
        _ => None,
    }
}

fn lease(attributes: &Attributes<'_>, node: &str) -> Option<String> {
    let name = Meta::of(attributes.object.as_deref()?).name();
    (attributes.namespace == Some("kube-node-lease") && name != node)
        .then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

/// Tokens only for pods on the node.
fn token(attributes: &Attributes<'_>, node: &str) -> Option<String> {
    let bound = &attributes.object.as_deref()?["spec"]["boundObjectRef"];
    if bound["kind"].as_str() != Some("Pod") {
        return Some("node requested token not bound to a pod".to_owned());
    }
    let Some(uid) = bound["uid"].as_str().filter(|u| !u.is_empty()) else {
        return Some("node requested token with a pod binding without a uid".to_owned());
    };
    let name = bound["name"].as_str().unwrap_or_default();
    let pod = attributes.reader.get("pods", attributes.namespace, name)?;
    if pod.uid() != uid {
        return Some(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    (pod.value()["spec"]["nodeName"].as_str() != Some(node))
        .then(|| "node requested token bound to a pod scheduled on a different node".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;
    use crate::server::auth::user::User;
    use serde_json::json;

    fn request(
        kind: &'static str,
        plural: &'static str,
        operation: Operation,
        sub: Option<&'static str>,
    ) -> Request<'static> {
        Request { operation, subresource: sub, user: User::node("n1"), ..Request::create(kind, plural) }
    }

    fn refused(request: &Request<'_>, object: Value) -> String {
        let fake = Fake::default();
        for (name, node) in [("mine", "n1"), ("other", "n2")] {
            fake.put("pods", json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": {"nodeName": node}}));
        }
        request.admit(&NodeRestriction, &fake, object).err().map(|s| s.message).unwrap_or_default()
    }

    #[test]
    fn a_node_is_kept_to_its_own_node_object() {
        let create = request("Node", "nodes", Operation::Create, None);
        assert_eq!(refused(&create, json!({"metadata": {"name": "n1"}})), "");
        assert_eq!(
            refused(&create, json!({"metadata": {"name": "n2"}})),
            "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
        );
        let labels = json!({"metadata": {"name": "n1", "labels": {"node-restriction.kubernetes.io/x": "y"}}});
        assert!(
            refused(&create, labels.clone())
                .ends_with("is not allowed to modify labels: node-restriction.kubernetes.io/x")
        );
        let mut update = request("Node", "nodes", Operation::Update, None);
        update.old = Some(labels.clone());
        assert_eq!(refused(&update, labels), "");
        let tainted =
            json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
        assert!(refused(&update, tainted).contains("not allowed to modify taints"));
    }

    #[test]
    fn a_node_is_kept_to_its_own_pods() {
        let pod = |name: &str, node: &str| json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"nodeName": node}});
        let create = request("Pod", "pods", Operation::Create, None);
        assert!(refused(&create, pod("x", "n1")).contains("can only create mirror pods"));
        let mut status = request("Pod", "pods", Operation::Update, Some("status"));
        status.old = Some(pod("mine", "n1"));
        assert_eq!(refused(&status, pod("mine", "n1")), "");
        status.old = Some(pod("other", "n2"));
        assert!(refused(&status, pod("other", "n2")).contains("can only update pod status"));
        let delete = request("Pod", "pods", Operation::Delete, None);
        assert_eq!(refused(&delete, pod("mine", "n1")), "");
        assert!(refused(&delete, pod("other", "n2")).contains("can only delete pods"));
        let token = request("ServiceAccount", "serviceaccounts", Operation::Create, Some("token"));
        let bound = |name: &str| {
            json!({"metadata": {"name": "default", "namespace": "a"},
            "spec": {"boundObjectRef": {"kind": "Pod", "name": name, "uid": name}}})
        };
        assert_eq!(refused(&token, bound("mine")), "");
        assert!(refused(&token, bound("other")).contains("scheduled on a different node"));
        let mut anyone = request("Pod", "pods", Operation::Create, None);
        anyone.user = User::new("jane", &[]);
        assert_eq!(refused(&anyone, pod("x", "n2")), "");
    }
}
