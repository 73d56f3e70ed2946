//! Roles and bindings inside kube-system and kube-public:
//! `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/namespace_policy.go`.

use serde_json::{Value, json};

use super::{API_VERSION, binding, metadata, user};

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";

fn role(namespace: &str, name: &str, rules: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "Role", "metadata": metadata(Some(namespace), name), "rules": rules})
}

fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": SYSTEM})
}

fn bind(namespace: &str, name: &str, role: &str, subjects: Vec<Value>) -> Value {
    binding("RoleBinding", Some(namespace), name, "Role", role, subjects)
}

/// All of them, roles before what binds them.
pub(super) fn objects() -> Vec<Value> {
    let mut objects = authentication_reader();
    for component in ["kube-controller-manager", "kube-scheduler"] {
        objects.extend(leader_locking(component));
    }
    objects.extend(controllers());
    objects
}

/// Where extension API servers read how to authenticate.
fn authentication_reader() -> Vec<Value> {
    let name = "extension-apiserver-authentication-reader";
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"],
        "resourceNames": ["extension-apiserver-authentication"], "verbs": ["get", "list", "watch"]}]);
    let users = vec![user("system:kube-controller-manager"), user("system:kube-scheduler")];
    vec![role(SYSTEM, name, rules), bind(SYSTEM, &format!("system::{name}"), name, users)]
}

fn leader_locking(component: &str) -> [Value; 2] {
    let name = format!("system::leader-locking-{component}");
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [component], "verbs": ["get", "update"]},
    ]);
    let subjects = vec![user(&format!("system:{component}")), account(component)];
    [role(SYSTEM, &name, rules), bind(SYSTEM, &name, &name, subjects)]
}

/// Controllers that may do something in one namespace only.
fn controllers() -> Vec<Value> {
    let events = json!({"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "update", "patch"]});
    let read = ["get", "list", "watch"];
    let secrets = |verbs: &[&str]| json!({"apiGroups": [""], "resources": ["secrets"], "verbs": verbs});
    let maps = |verbs: &[&str]| json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs});
    let info = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cluster-info"], "verbs": ["update"]});
    let table = [
        (SYSTEM, "bootstrap-signer", json!([secrets(&read)])),
        (SYSTEM, "cloud-provider", json!([maps(&["create", "get", "list", "watch"])])),
        (SYSTEM, "token-cleaner", json!([secrets(&["get", "list", "watch", "delete"]), events])),
        (PUBLIC, "bootstrap-signer", json!([maps(&read), info, events])),
    ];
    let both = table.into_iter().map(|(namespace, controller, rules)| {
        let name = format!("system:controller:{controller}");
        [role(namespace, &name, rules), bind(namespace, &name, &name, vec![account(controller)])]
    });
    both.flatten().collect()
}
