use super::*;
use crate::server::auth::testing::Fake;
use crate::server::auth::user::User;
use serde_json::json;

fn texts(errors: Vec<FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_say_what_may_be_done_with_what() {
    let role = |rule: Value, cluster: bool| {
        texts(RoleStrategy { cluster }.validate(&json!({"rules": [rule]}), false))
    };
    assert_eq!(
        role(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), false),
        [] as [&str; 0]
    );
    assert_eq!(role(json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}), true), [] as [&str; 0]);
    assert_eq!(
        role(json!({}), true),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource"
        ]
    );
    assert_eq!(
        role(json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}), false),
        [
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"
        ]
    );
}

#[test]
fn bindings_name_a_role_for_good() {
    let binding = |role: &str, subject: Value| json!({"roleRef": {"apiGroup": GROUP, "kind": role, "name": "r"}, "subjects": [subject]});
    let user = json!({"kind": "User", "name": "u", "apiGroup": GROUP});
    let (local, cluster) = (BindingStrategy { cluster: false }, BindingStrategy { cluster: true });
    assert_eq!(texts(local.validate(&binding("Role", user.clone()))), [] as [&str; 0]);
    assert_eq!(
        texts(cluster.validate(&binding("Role", json!({"kind": "ServiceAccount", "name": "s"})))),
        [
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "subjects[0].namespace: Required value"
        ]
    );
    let (reader, by) = (Fake::default(), User::loopback());
    let cx = Context { user: &by, namespace: None, reader: &reader, dry_run: false };
    let changed = local.validate_update(&cx, &binding("ClusterRole", user.clone()), &binding("Role", user));
    assert!(changed[0].to_string().ends_with("cannot change roleRef"), "{changed:?}");
}

/// A cluster in which jane may read pods in `a`, and what `extra` allows her everywhere.
fn cluster(extra: Value) -> Fake {
    let fake = Fake::default();
    let put = |resource: &str, object: Value| fake.put(&format!("{resource}.{GROUP}"), object);
    let pods = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let secrets = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
    put("roles", json!({"metadata": {"name": "pods", "namespace": "a"}, "rules": pods}));
    put("clusterroles", json!({"metadata": {"name": "pods"}, "rules": pods}));
    put("clusterroles", json!({"metadata": {"name": "secrets"}, "rules": secrets}));
    put("clusterroles", json!({"metadata": {"name": "extra"}, "rules": extra}));
    let subjects = json!([{"kind": "User", "name": "jane"}]);
    put(
        "rolebindings",
        json!({"metadata": {"name": "b", "namespace": "a"},
        "roleRef": {"kind": "Role", "name": "pods"}, "subjects": subjects}),
    );
    put(
        "clusterrolebindings",
        json!({"metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "extra"}, "subjects": subjects}),
    );
    fake
}

fn jane_makes(strategy: &dyn Strategy, namespace: Option<&str>, object: &Value, extra: Value) -> String {
    let (fake, jane) = (cluster(extra), User::new("jane", &[]));
    let cx = Context { user: &jane, namespace, reader: &fake, dry_run: false };
    let refused = strategy.prepare_create(&cx, &mut object.clone()).err();
    refused.map(|s| format!("{} {}", s.code, s.message)).unwrap_or_default()
}

#[test]
fn nobody_writes_a_role_with_more_than_they_have() {
    let role = |resource: &str| json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]});
    let local = RoleStrategy { cluster: false };
    assert_eq!(jane_makes(&local, Some("a"), &role("pods"), json!([])), "");
    assert_eq!(
        jane_makes(&local, Some("a"), &role("secrets"), json!([])),
        "403 roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[]) is attempting to grant \
         RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
    );
    assert!(jane_makes(&local, Some("b"), &role("pods"), json!([])).starts_with("403"), "another namespace");
    let escalate = json!([{"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"]}]);
    assert_eq!(jane_makes(&local, Some("a"), &role("secrets"), escalate.clone()), "");
    let all = RoleStrategy { cluster: true };
    assert!(jane_makes(&all, None, &role("pods"), escalate).starts_with("403"), "of roles only");
    let mut sum = json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
    assert_eq!(
        jane_makes(&all, None, &sum, json!([])),
        "403 clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: must have cluster-admin privileges to use an aggregationRule"
    );
    let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    assert_eq!(jane_makes(&all, None, &sum, everything), "");
    // What lets the garbage collector finish is no grant.
    sum["metadata"]["finalizers"] = json!(["x"]);
    let (fake, jane) = (cluster(json!([])), User::new("jane", &[]));
    let cx = Context { user: &jane, namespace: None, reader: &fake, dry_run: false };
    let mut done = sum.clone();
    done["metadata"]["finalizers"] = json!([]);
    assert!(all.prepare_update(&cx, &mut done.clone(), &sum).is_ok());
    done["metadata"]["labels"] = json!({"a": "b"});
    assert!(all.prepare_update(&cx, &mut done, &sum).is_err());
}

#[test]
fn nobody_binds_a_role_with_more_than_they_have() {
    let binding = |kind: &str, role: &str| json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role}});
    let (local, all) = (BindingStrategy { cluster: false }, BindingStrategy { cluster: true });
    assert_eq!(jane_makes(&local, Some("a"), &binding("Role", "pods"), json!([])), "");
    assert_eq!(jane_makes(&local, Some("a"), &binding("ClusterRole", "pods"), json!([])), "");
    assert!(jane_makes(&all, None, &binding("ClusterRole", "pods"), json!([])).starts_with(
        "403 clusterrolebindings.rbac.authorization.k8s.io \"b\" is forbidden: user \"jane\" (groups=[])"
    ));
    assert_eq!(
        jane_makes(&local, Some("a"), &binding("Role", "gone"), json!([])),
        "404 roles.rbac.authorization.k8s.io \"gone\" not found"
    );
    let secrets = binding("ClusterRole", "secrets");
    assert!(jane_makes(&local, Some("a"), &secrets, json!([])).starts_with("403"));
    let bind = json!([{"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["secrets"]}]);
    assert_eq!(jane_makes(&local, Some("a"), &secrets, bind.clone()), "");
    assert!(
        jane_makes(&local, Some("a"), &binding("ClusterRole", "extra"), bind.clone()).is_empty(),
        "has it"
    );
    assert_eq!(jane_makes(&all, None, &secrets, bind), "");
}
