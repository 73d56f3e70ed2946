//! The node authorizer: <https://kubernetes.io/docs/reference/access-authn-authz/node/>.
//!
//! A node may do what its role says, but reads only the secrets, config maps and claims that its own pods
//! name, asks only for tokens of service accounts its pods run as, and touches only its own Node and Lease.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::Attributes;
use super::rbac::{Rule, bootstrap};
use super::references::{Kind, names, secrets_of_volume};
use crate::api::{FieldSelector, Meta, Object};
use crate::server::reader::Reader;

/// What every node may do, unless a check below speaks for the resource.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| bootstrap::rules_of("system:node"));

/// The annotation of pods that a node made of its own manifests.
const MIRROR: &str = "kubernetes.io/config.mirror";

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
            ("", "nodes") => return check.nodes(),
            ("", "pods") => return check.pods(),
            ("coordination.k8s.io", "leases") => return check.lease(),
            ("storage.k8s.io", "csinodes") => return check.csi_node(),
            ("storage.k8s.io", "volumeattachments") => return check.attachment(),
            // Nothing here relates a claim of devices to a node.
            ("resource.k8s.io", "resourceclaims" | "resourceslices") => return check.no_relationship(),
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
        if !matches!(self.wanted.verb, "update" | "patch") {
            return no("can only get/update/patch this type");
        }
        self.named(Kind::Claim)
    }

    /// A pod of this node names the object, or a volume of such a pod's claim does.
    fn named(&self, kind: Kind) -> Result<(), String> {
        let Some(name) = self.name() else { return no("No Object name found") };
        let found = self.pods_with(name).any(|pod| names(&pod, kind, name))
            || (kind == Kind::Secret && self.named_by_volume(name));
        if found { Ok(()) } else { self.no_relationship() }
    }

    /// Node, pod, claim, volume, secret.
    fn named_by_volume(&self, secret: &str) -> bool {
        let namespace = self.wanted.namespace;
        let mentions = |o: &Arc<Object>| std::str::from_utf8(o.bytes()).is_ok_and(|t| t.contains(secret));
        let volumes = self.reader.list("persistentvolumes", None).into_iter().filter(mentions);
        volumes.map(|volume| volume.value()).any(|volume| {
            let of_claim = volume["spec"]["claimRef"]["namespace"].as_str();
            let needed =
                secrets_of_volume(&volume).any(|(of, name)| name == secret && of.or(of_claim) == namespace);
            needed && self.claimed(&volume).is_ok()
        })
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
        // The claim of an ephemeral volume is not named by the pod, but after it.
        let names = move |pod: &Object| has(pod, word) || has(pod, "\"ephemeral\"");
        let likely = pods.into_iter().filter(move |pod| has(pod, self.node) && names(pod));
        let pods = likely.map(|pod| pod.value()).filter(|pod| self.runs(pod));
        // A pod that a node made itself must not open anything to it.
        pods.filter(|pod| Meta::of(pod).annotation(MIRROR).is_none())
    }

    fn runs(&self, pod: &Value) -> bool {
        pod["spec"]["nodeName"].as_str() == Some(self.node)
    }

    /// A volume whose claim a pod of this node names.
    fn volume(&self) -> Result<(), String> {
        if self.wanted.verb != "get" || self.wanted.subresource.is_some() {
            return no("can only get individual resources of this type");
        }
        let Some(name) = self.name() else { return no("No Object name found") };
        let volume = self.reader.get("persistentvolumes", None, name).map(|v| v.value()).unwrap_or_default();
        self.claimed(&volume)
    }

    /// A pod of this node names the volume's claim.
    fn claimed(&self, volume: &Value) -> Result<(), String> {
        let claim = &volume["spec"]["claimRef"];
        let (Some(namespace), Some(claim)) = (claim["namespace"].as_str(), claim["name"].as_str()) else {
            return self.no_relationship();
        };
        let wanted = Attributes { namespace: Some(namespace), name: Some(claim), ..*self.wanted };
        Check { wanted: &wanted, ..*self }.named(Kind::Claim)
    }

    /// An attachment to this node.
    fn attachment(&self) -> Result<(), String> {
        if self.wanted.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if self.wanted.subresource.is_some() {
            return no("cannot get subresource");
        }
        let Some(name) = self.name() else { return no("No Object name found") };
        let found = self.reader.get("volumeattachments.storage.k8s.io", None, name);
        let here = found.is_some_and(|a| a.value()["spec"]["nodeName"].as_str() == Some(self.node));
        if here { Ok(()) } else { self.no_relationship() }
    }

    /// Tokens of service accounts that pods of this node run as.
    fn service_account(&self) -> Result<(), String> {
        match (self.wanted.verb, self.wanted.subresource, self.name()) {
            ("get", None, Some(_)) | ("create", Some("token"), Some(_)) => {}
            ("create", _, Some(_)) => return no("can only create token subresource of serviceaccount"),
            _ => return no("can only create tokens for individual service accounts"),
        }
        let name = self.name().unwrap_or_default();
        let runs = |pod: Value| pod["spec"]["serviceAccountName"].as_str() == Some(name);
        if self.pods_with(name).any(runs) { Ok(()) } else { self.no_relationship() }
    }

    /// Its own Node; others only as far as RBAC lets it. Which one it changes, admission checks.
    fn nodes(&self) -> Result<(), String> {
        match (self.wanted.subresource, self.wanted.verb) {
            (None, "create" | "update" | "patch") | (Some("status"), "update" | "patch") => Ok(()),
            (None, "get" | "list" | "watch") => match self.name() {
                Some(name) if name == self.node => Ok(()),
                Some(name) => {
                    Err(format!("node '{}' cannot read '{name}', only its own Node object", self.node))
                }
                None => Err(format!("node '{}' cannot read all nodes, only its own Node object", self.node)),
            },
            _ => no(""),
        }
    }

    /// Its own pods: by name, or by a field selector that picks them. Which ones it changes, admission
    /// checks.
    fn pods(&self) -> Result<(), String> {
        match (self.wanted.subresource, self.wanted.verb) {
            (None, "get") => self.own_pod(),
            (None, "list" | "watch") => {
                let selector = self.wanted.field_selector.and_then(|s| FieldSelector::parse(s).ok());
                if selector.is_some_and(|s| s.exact("spec.nodeName") == Some(self.node)) {
                    return Ok(());
                }
                if self.name().is_some() {
                    return self.own_pod();
                }
                no("can only list/watch pods with spec.nodeName field selector")
            }
            (None, "create" | "delete")
            | (Some("status"), "update" | "patch")
            | (Some("eviction"), "create") => Ok(()),
            _ => no(""),
        }
    }

    fn own_pod(&self) -> Result<(), String> {
        let Some(name) = self.name() else { return no("No Object name found") };
        match self.reader.get("pods", self.wanted.namespace, name) {
            Some(pod) if !self.runs(&pod.value()) => self.no_relationship(),
            // A pod that is gone: the node may learn so, which upstream tells it by a 403.
            _ => Ok(()),
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

    fn csi_node(&self) -> Result<(), String> {
        if !matches!(self.wanted.verb, "get" | "create" | "update" | "patch" | "delete") {
            return no("can only get, create, update, patch, or delete a CSINode");
        }
        if self.wanted.subresource.is_some() {
            return no("cannot authorize CSINode subresources");
        }
        self.own_name("can only access CSINode with the same name as the requesting node")
    }

    /// An own object that is to be made has its name in the body, which admission checks.
    fn own_name(&self, reason: &str) -> Result<(), String> {
        let own = self.wanted.verb == "create" || self.name() == Some(self.node);
        if own { Ok(()) } else { no(reason) }
    }
}
