//! The default roles and bindings:
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>.
//!
//! They are created at start if they are missing, and what of their rules or subjects is missing is
//! added ([`reconcile()`]), unless the annotation `rbac.authorization.kubernetes.io/autoupdate` is `false`.

mod namespaced;
mod parse;
mod reconcile;

use serde_json::{Value, json};

use super::Rule;
use crate::server::auth::user::{AUTHENTICATED, MASTERS, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED};
use parse::Role;
pub use reconcile::{Outcome, reconcile};

const API_GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

/// All default objects, of apiVersion `rbac.authorization.k8s.io/v1`: ClusterRoles before what binds
/// them; Roles and RoleBindings of kube-system and kube-public last.
pub fn objects() -> Vec<Value> {
    let roles = parse::roles(include_str!("roles.txt"));
    let controllers = parse::roles(include_str!("controllers.txt"));
    let mut objects: Vec<Value> = roles.iter().map(|role| cluster_role(role, &role.name)).collect();
    objects.extend(controllers.iter().map(|role| cluster_role(role, &controller(role))));
    objects.extend(bindings());
    objects.extend(controllers.iter().map(|role| {
        let account = json!({"kind": "ServiceAccount", "name": role.name, "namespace": "kube-system"});
        binding(
            "ClusterRoleBinding",
            None,
            &controller(role),
            "ClusterRole",
            &controller(role),
            vec![account],
        )
    }));
    objects.extend(namespaced::objects());
    objects
}

/// The rules of a default role; none if there is no such role.
pub fn rules_of(role: &str) -> Vec<Rule> {
    let roles = parse::roles(include_str!("roles.txt"));
    roles.into_iter().find(|r| r.name == role).map(|r| r.rules).unwrap_or_default()
}

fn controller(role: &Role) -> String {
    format!("system:controller:{}", role.name)
}

fn metadata(namespace: Option<&str>, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

fn cluster_role(role: &Role, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": API_VERSION, "kind": "ClusterRole", "metadata": metadata(None, name), "rules": role.rules,
    });
    let label = |of: &str| format!("{API_GROUP}/aggregate-to-{of}");
    for of in &role.part_of {
        object["metadata"]["labels"][label(of)] = json!("true");
    }
    if let Some(of) = &role.collects {
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label(of): "true"}}]});
    }
    object
}

fn binding(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    role_kind: &str,
    role: &str,
    subjects: Vec<Value>,
) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": kind, "metadata": metadata(namespace, name),
        "roleRef": {"apiGroup": API_GROUP, "kind": role_kind, "name": role},
        "subjects": subjects,
    })
}

fn user(name: &str) -> Value {
    json!({"apiGroup": API_GROUP, "kind": "User", "name": name})
}

fn group(name: &str) -> Value {
    json!({"apiGroup": API_GROUP, "kind": "Group", "name": name})
}

/// Groups of bootstrap tokens that are for new nodes: kedge's own, and kubeadm's, which documents name.
fn joining() -> Vec<Value> {
    ["kedge", "kubeadm"].map(|of| group(&format!("system:bootstrappers:{of}:default-node-token"))).into()
}

fn bindings() -> Vec<Value> {
    let account = json!({"kind": "ServiceAccount", "name": "kube-dns", "namespace": "kube-system"});
    let table = [
        ("cluster-admin", vec![group(MASTERS)]),
        ("system:monitoring", vec![group("system:monitoring")]),
        ("system:discovery", vec![group(AUTHENTICATED)]),
        ("system:basic-user", vec![group(AUTHENTICATED)]),
        ("system:public-info-viewer", vec![group(AUTHENTICATED), group(UNAUTHENTICATED)]),
        ("system:node-proxier", vec![user("system:kube-proxy")]),
        ("system:kube-controller-manager", vec![user("system:kube-controller-manager")]),
        ("system:kube-dns", vec![account]),
        ("system:kube-scheduler", vec![user("system:kube-scheduler")]),
        ("system:volume-scheduler", vec![user("system:kube-scheduler")]),
        ("system:service-account-issuer-discovery", vec![group(SERVICE_ACCOUNTS)]),
        // What who joins with a bootstrap token of these groups needs to become a node, as kubeadm has it.
        ("system:node-bootstrapper", joining()),
        ("system:certificates.k8s.io:certificatesigningrequests:nodeclient", joining()),
        ("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", vec![group(NODES)]),
        // The node authorizer stands for it; bound to nobody, as upstream.
        ("system:node", vec![]),
        ("kedge:node", vec![group(NODES)]),
    ];
    let name = |role: &str| match role.strip_prefix("system:certificates.k8s.io:") {
        Some(rest) => format!("kedge:{rest}"),
        None if role == "system:node-bootstrapper" => "kedge:node-bootstrapper".to_owned(),
        None => role.to_owned(),
    };
    table.map(|(role, to)| binding("ClusterRoleBinding", None, &name(role), "ClusterRole", role, to)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
        objects
            .iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("{name}"))
    }

    #[test]
    fn every_binding_has_its_role_and_no_name_comes_twice() {
        let objects = objects();
        let mut seen = BTreeSet::new();
        for object in &objects {
            let key = (object["kind"].to_string(), object["metadata"].to_string());
            assert!(seen.insert(key), "{object}");
            if let Some(role) = object.get("roleRef") {
                find(&objects, role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
            }
            for rule in object["rules"].as_array().into_iter().flatten() {
                let resources = rule.get("resources").is_some() && rule.get("apiGroups").is_some();
                assert!(
                    resources || rule.get("nonResourceURLs").is_some(),
                    "{}: {rule}",
                    object["metadata"]["name"]
                );
                assert!(!rule["verbs"].as_array().unwrap().is_empty());
            }
        }
        assert!(objects.len() > 90, "{}", objects.len());
    }

    #[test]
    fn roles_say_what_upstreams_say() {
        let objects = objects();
        let admin = find(&objects, "ClusterRole", "cluster-admin");
        assert_eq!(
            admin["rules"],
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}])
        );
        let gc = find(&objects, "ClusterRole", "system:controller:generic-garbage-collector");
        assert_eq!(gc["rules"][1]["apiGroups"], json!(["", "events.k8s.io"]));
        let signer = find(&objects, "ClusterRole", "system:certificates.k8s.io:kubelet-serving-approver");
        assert_eq!(signer["rules"][0]["resourceNames"], json!(["kubernetes.io/kubelet-serving"]));
    }

    #[test]
    fn admin_edit_and_view_are_the_sums_of_their_parts() {
        let objects = objects();
        let count = |name: &str| find(&objects, "ClusterRole", name)["rules"].as_array().unwrap().len();
        let metrics = count("system:aggregated-metrics-reader");
        assert_eq!(count("view"), count("system:aggregate-to-view") + metrics);
        assert_eq!(count("edit"), count("system:aggregate-to-edit") + count("view"));
        assert_eq!(count("admin"), count("system:aggregate-to-admin") + count("edit"));
        let edit = find(&objects, "ClusterRole", "edit");
        let label = "rbac.authorization.k8s.io/aggregate-to-edit";
        assert_eq!(edit["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"][label], "true");
        assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
    }
}
