//! The node authorizer: <https://kubernetes.io/docs/reference/access-authn-authz/node/>.
//!
//! A node may do what its role says, but reads only the secrets, config maps and claims that its own pods
//! name, asks only for tokens of service accounts its pods run as, and touches only its own Node and Lease.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::Attributes;
use super::rbac::{Rule, bootstrap};
use super::references::{Kind, names};
use crate::api::{FieldSelector, Object};
use crate::server::reader::Reader;

/// What every node may do, unless a check below speaks for the resource.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| bootstrap::rules_of("system:node"));

/// Whether the node authorizer lets `node` do this.
///
/// # Errors
/// If not, why; empty when there is nothing to tell.
pub fn authorize(reader: &dyn Reader, node: &str, wanted: &Attributes<'_>) -> Result<(), String> {
    let check = Check { reader, node, wanted };
    if wanted.path.is_none() {
        match (wanted.group, wanted.resource) {
            ("", "secrets") => return check.read_named(Kind::Secret),
            ("", "configmaps") => return check.read_named(Kind::ConfigMap),
            ("", "persistentvolumeclaims") if wanted.subresource == Some("status") => {
                return check.claim_status();
            }
            ("", "persistentvolumeclaims") => return check.get_named(Kind::Claim),
            ("", "persistentvolumes") => return check.volume(),
            ("", "serviceaccounts") => return check.service_account(),
            ("", "nodes") => return check.own_node(),
            ("", "pods") => return check.pods(),
            ("coordination.k8s.io", "leases") => return check.lease(),
            ("storage.k8s.io", "csinodes") => {
                return check.own_name("can only access CSINode with the same name as the requesting node");
            }
            _ => {}
        }
    }
    check.rules()
}

struct Check<'a> {
    reader: &'a dyn Reader,
    node: &'a str,
    wanted: &'a Attributes<'a>,
}

fn no(reason: &str) -> Result<(), String> {
    Err(reason.to_owned())
}

impl Check<'_> {
    fn rules(&self) -> Result<(), String> {
        if RULES.iter().any(|rule| rule.allows(self.wanted)) { Ok(()) } else { no("") }
    }

    fn name(&self) -> Option<&str> {
        self.wanted.name.filter(|n| !n.is_empty())
    }

    fn read_named(&self, kind: Kind) -> Result<(), String> {
        if !matches!(self.wanted.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if self.wanted.subresource.is_some() {
            return no("cannot read subresource");
        }
        if self.wanted.namespace.is_none_or(str::is_empty) {
            return no("can only read namespaced object of this type");
        }
        self.named(kind)
    }

    fn get_named(&self, kind: Kind) -> Result<(), String> {
        if self.wanted.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if self.wanted.subresource.is_some() {
            return no("cannot get subresource");
        }
        self.named(kind)
    }

    fn claim_status(&self) -> Result<(), String> {
        if !matches!(self.wanted.verb, "update" | "patch" | "get") {
            return no("can only get/update/patch this type");
        }
        self.named(Kind::Claim)
    }

    /// A pod of this node names the object.
    fn named(&self, kind: Kind) -> Result<(), String> {
        let Some(name) = self.name() else { return no("No Object name found") };
        let found = self.pods_with(name).any(|pod| names(&pod, kind, name));
        if found { Ok(()) } else { self.no_relationship() }
    }

    fn no_relationship(&self) -> Result<(), String> {
        Err(format!("no relationship found between node '{}' and this object", self.node))
    }

    /// The pods of this node in the request's namespace whose text has `word`.
    fn pods_with(&self, word: &str) -> impl Iterator<Item = Value> {
        // Most pods are told apart by their bytes, without decoding them.
        let has =
            |pod: &Object, word: &str| std::str::from_utf8(pod.bytes()).is_ok_and(|text| text.contains(word));
        let pods: Vec<Arc<Object>> = self.reader.list("pods", self.wanted.namespace);
        let likely = pods.into_iter().filter(move |pod| has(pod, self.node) && has(pod, word));
        likely.map(|pod| pod.value()).filter(|pod| pod["spec"]["nodeName"].as_str() == Some(self.node))
    }

    /// A volume whose claim a pod of this node names.
    fn volume(&self) -> Result<(), String> {
        if self.wanted.verb != "get" || self.wanted.subresource.is_some() {
            return no("can only get individual resources of this type");
        }
        let Some(name) = self.name() else { return no("No Object name found") };
        let volume = self.reader.get("persistentvolumes", None, name).map(|v| v.value()).unwrap_or_default();
        let claim = &volume["spec"]["claimRef"];
        let (Some(namespace), Some(claim)) = (claim["namespace"].as_str(), claim["name"].as_str()) else {
            return self.no_relationship();
        };
        let wanted = Attributes { namespace: Some(namespace), name: Some(claim), ..*self.wanted };
        Check { wanted: &wanted, ..*self }.named(Kind::Claim)
    }

    /// Tokens of service accounts that pods of this node run as.
    fn service_account(&self) -> Result<(), String> {
        match (self.wanted.verb, self.wanted.subresource) {
            ("create", Some("token")) | ("get", None) => {}
            _ => return no("can only create tokens for individual service accounts"),
        }
        let Some(name) = self.name() else {
            return no("can only create tokens for individual service accounts");
        };
        let runs = |pod: Value| pod["spec"]["serviceAccountName"].as_str() == Some(name);
        if self.pods_with(name).any(runs) { Ok(()) } else { self.no_relationship() }
    }

    /// Its own Node; others only as far as RBAC lets it.
    fn own_node(&self) -> Result<(), String> {
        match self.wanted.verb {
            "create" if self.wanted.subresource.is_none() => return Ok(()),
            "get" | "list" | "watch" | "update" | "patch"
                if matches!(self.wanted.subresource, None | Some("status")) => {}
            verb => return Err(format!("node '{}' cannot {verb} nodes", self.node)),
        }
        self.own_name(&format!(
            "node '{}' cannot read or change other nodes, only its own Node object",
            self.node
        ))
    }

    fn own_name(&self, reason: &str) -> Result<(), String> {
        match self.name() {
            Some(name) if name == self.node => self.rules(),
            // An own object that is to be made has its name in the body, which admission checks.
            None if self.wanted.verb == "create" => self.rules(),
            _ => no(reason),
        }
    }

    /// Its own pods: by name, or by a field selector that picks them.
    fn pods(&self) -> Result<(), String> {
        match self.wanted.verb {
            "list" | "watch" => {
                let selector = self.wanted.field_selector.and_then(|s| FieldSelector::parse(s).ok());
                if selector.is_some_and(|s| s.exact("spec.nodeName") == Some(self.node)) {
                    return self.rules();
                }
                no("can only list/watch pods with spec.nodeName field selector")
            }
            "get" => {
                let Some(name) = self.name() else { return no("No Object name found") };
                let pod = self.reader.get("pods", self.wanted.namespace, name).map(|p| p.value());
                match pod {
                    Some(pod) if pod["spec"]["nodeName"].as_str() == Some(self.node) => self.rules(),
                    // A pod that is gone: the node may learn so.
                    None => self.rules(),
                    Some(_) => self.no_relationship(),
                }
            }
            _ => self.rules(),
        }
    }

    /// Its heartbeat.
    fn lease(&self) -> Result<(), String> {
        if !matches!(self.wanted.verb, "get" | "create" | "update" | "patch" | "delete") {
            return no("can only get, create, update, patch, or delete a node lease");
        }
        if self.wanted.namespace != Some("kube-node-lease") {
            return no("can only access leases in the \"kube-node-lease\" system namespace");
        }
        self.own_name("can only access node lease with the same name as the requesting node")
    }
}
