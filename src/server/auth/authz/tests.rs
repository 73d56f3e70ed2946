use super::*;
use crate::server::auth::testing::Fake;
use serde_json::{Value, json};

fn cluster() -> Arc<Fake> {
    let fake = Fake::default();
    for object in rbac::bootstrap::objects() {
        let resource = match object["kind"].as_str().unwrap() {
            "ClusterRole" => "clusterroles",
            "ClusterRoleBinding" => "clusterrolebindings",
            "Role" => "roles",
            _ => "rolebindings",
        };
        fake.put(&format!("{resource}.rbac.authorization.k8s.io"), object);
    }
    Arc::new(fake)
}

fn request(verb: &str, path: &str) -> RequestInfo {
    let method = match verb {
        "get" | "list" | "watch" => "GET",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        _ => "DELETE",
    };
    let info = RequestInfo::parse(&method.parse().unwrap(), &path.parse().unwrap());
    assert_eq!(info.verb, verb, "{path}");
    info
}

fn may(authorizer: &Authorizer, user: &User, verb: &str, path: &str) -> bool {
    authorizer.authorize(user, &request(verb, path)).is_ok()
}

#[test]
fn refusals_read_as_upstreams() {
    let authorizer = Authorizer::new(cluster());
    let jane = User::new("jane", &["system:authenticated"]);
    for (verb, path, text) in [
        (
            "list",
            "/api/v1/namespaces/default/pods",
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#,
        ),
        (
            "get",
            "/apis/apps/v1/namespaces/a/deployments/web/status",
            r#"deployments.apps "web" is forbidden: User "jane" cannot get resource "deployments/status" in API group "apps" in the namespace "a""#,
        ),
        (
            "list",
            "/api/v1/nodes",
            r#"nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope"#,
        ),
        ("get", "/metrics", r#"forbidden: User "jane" cannot get path "/metrics""#),
    ] {
        let status = authorizer.authorize(&jane, &request(verb, path)).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (403, text));
    }
}

#[test]
fn defaults_let_everyone_see_versions_and_masters_do_all() {
    let authorizer = Authorizer::new(cluster());
    let anonymous = User::anonymous();
    assert!(may(&authorizer, &anonymous, "get", "/version"));
    assert!(may(&authorizer, &anonymous, "get", "/readyz"));
    assert!(!may(&authorizer, &anonymous, "get", "/api"));
    assert!(!may(&authorizer, &anonymous, "list", "/api/v1/pods"));
    let jane = User::new("jane", &["system:authenticated"]);
    assert!(may(&authorizer, &jane, "get", "/apis/apps/v1"));
    assert!(may(&authorizer, &jane, "create", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"));
    let admin = User::new("admin", &["system:masters"]);
    assert!(may(&authorizer, &admin, "delete", "/api/v1/namespaces/a/secrets/x"));
    let scheduler = User::scheduler();
    assert!(may(&authorizer, &scheduler, "create", "/api/v1/namespaces/a/pods/x/binding"));
    assert!(!may(&authorizer, &scheduler, "create", "/api/v1/namespaces/a/pods"));
    let controller = User::controller("deployment-controller");
    assert!(may(&authorizer, &controller, "create", "/apis/apps/v1/namespaces/a/replicasets"));
    assert!(!may(&authorizer, &controller, "create", "/api/v1/namespaces/a/pods"));
}

#[test]
fn bindings_take_effect_at_once_and_end_at_once() {
    let fake = cluster();
    let authorizer = Authorizer::new(fake.clone());
    let account = User::service_account("a", "robot");
    let path = "/api/v1/namespaces/a/pods";
    assert!(!may(&authorizer, &account, "list", path));
    let binding = json!({"metadata": {"name": "b", "namespace": "a"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot"}]});
    fake.put("rolebindings.rbac.authorization.k8s.io", binding);
    assert!(may(&authorizer, &account, "list", path));
    assert!(may(&authorizer, &account, "get", "/api/v1/namespaces/a/pods/x/log"));
    assert!(!may(&authorizer, &account, "create", path));
    assert!(!may(&authorizer, &account, "get", "/api/v1/namespaces/a/secrets/x"));
    assert!(!may(&authorizer, &account, "list", "/api/v1/namespaces/b/pods"));
    assert!(!may(&authorizer, &account, "list", "/api/v1/pods"));
    fake.remove("rolebindings.rbac.authorization.k8s.io", "a", "b");
    assert!(!may(&authorizer, &account, "list", path));
}

#[test]
fn a_role_that_is_missing_is_told() {
    let fake = cluster();
    let binding = json!({"metadata": {"name": "b", "namespace": "a"},
        "roleRef": {"kind": "Role", "name": "gone"}, "subjects": [{"kind": "Group", "name": "dev"}]});
    fake.put("rolebindings.rbac.authorization.k8s.io", binding);
    let authorizer = Authorizer::new(fake);
    let status = authorizer
        .authorize(&User::new("jane", &["dev"]), &request("list", "/api/v1/namespaces/a/pods"))
        .unwrap_err();
    assert!(
        status.message.ends_with(r#": RBAC: role.rbac.authorization.k8s.io "gone" not found"#),
        "{}",
        status.message
    );
}

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec});
    pod["spec"]["nodeName"] = json!(node);
    pod
}

#[test]
fn a_node_reads_what_its_own_pods_name_and_nothing_else() {
    let fake = cluster();
    let spec = json!({"serviceAccountName": "robot", "containers": [], "volumes": [
        {"secret": {"secretName": "mine"}}, {"persistentVolumeClaim": {"claimName": "data"}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}]});
    fake.put("pods", pod("p", "n1", spec));
    fake.put("pods", pod("q", "n2", json!({"volumes": [{"secret": {"secretName": "other"}}]})));
    let claim = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "a", "name": "data"}}});
    fake.put("persistentvolumes", claim);
    let claim = json!({"namespace": "a", "name": "data"});
    let driver = json!({"nodePublishSecretRef": {"name": "driver", "namespace": "a"}});
    fake.put(
        "persistentvolumes",
        json!({"metadata": {"name": "csi"}, "spec": {"claimRef": claim, "csi": driver}}),
    );
    let mut mirror = pod("m", "n1", json!({"volumes": [{"secret": {"secretName": "mirrored"}}]}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    fake.put("pods", mirror);
    for (name, node) in [("here", "n1"), ("there", "n2")] {
        let attachment = json!({"metadata": {"name": name}, "spec": {"nodeName": node}});
        fake.put("volumeattachments.storage.k8s.io", attachment);
    }
    let authorizer = Authorizer::new(fake);
    let node = User::node("n1");
    for (ok, verb, path) in [
        (true, "get", "/api/v1/namespaces/a/secrets/mine"),
        (false, "get", "/api/v1/namespaces/a/secrets/other"),
        (false, "list", "/api/v1/namespaces/a/secrets"),
        (true, "watch", "/api/v1/namespaces/a/secrets?watch=1&fieldSelector=metadata.name%3Dmine"),
        (false, "delete", "/api/v1/namespaces/a/secrets/mine"),
        (true, "get", "/api/v1/namespaces/a/persistentvolumeclaims/data"),
        (true, "get", "/api/v1/namespaces/a/persistentvolumeclaims/p-scratch"),
        (false, "get", "/api/v1/namespaces/a/persistentvolumeclaims/q-scratch"),
        (true, "get", "/api/v1/persistentvolumes/pv"),
        (false, "get", "/api/v1/persistentvolumes/other"),
        (true, "create", "/api/v1/namespaces/a/serviceaccounts/robot/token"),
        (false, "create", "/api/v1/namespaces/a/serviceaccounts/default/token"),
        (true, "list", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"),
        (false, "list", "/api/v1/pods"),
        (false, "list", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2"),
        (true, "get", "/api/v1/namespaces/a/pods/p"),
        (false, "get", "/api/v1/namespaces/a/pods/q"),
        (true, "patch", "/api/v1/namespaces/a/pods/p/status"),
        (true, "create", "/api/v1/nodes"),
        (true, "patch", "/api/v1/nodes/n1/status"),
        // Which Node it changes, NodeRestriction checks.
        (true, "patch", "/api/v1/nodes/n2/status"),
        (false, "delete", "/api/v1/nodes/n1"),
        (true, "update", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"),
        (false, "update", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2"),
        (false, "update", "/apis/coordination.k8s.io/v1/namespaces/a/leases/n1"),
        (true, "list", "/apis/discovery.k8s.io/v1/endpointslices"),
        (true, "list", "/api/v1/services"),
        (true, "create", "/api/v1/namespaces/a/events"),
        (true, "list", "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp"),
        (false, "list", "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dq"),
        (true, "create", "/api/v1/namespaces/a/pods/p/eviction"),
        (true, "delete", "/api/v1/namespaces/a/pods/p"),
        (false, "patch", "/api/v1/namespaces/a/pods/p"),
        (false, "get", "/api/v1/namespaces/a/pods/p/log"),
        (false, "create", "/api/v1/namespaces/a/pods/p/exec"),
        (false, "create", "/api/v1/namespaces/a/pods/p/binding"),
        (true, "patch", "/api/v1/namespaces/a/persistentvolumeclaims/data/status"),
        (false, "get", "/api/v1/namespaces/a/persistentvolumeclaims/data/status"),
        (false, "patch", "/api/v1/namespaces/a/persistentvolumeclaims/data"),
        (false, "list", "/api/v1/persistentvolumes"),
        (true, "get", "/api/v1/namespaces/a/secrets/driver"),
        (false, "get", "/api/v1/namespaces/b/secrets/driver"),
        (false, "get", "/api/v1/namespaces/a/secrets/mirrored"),
        (true, "get", "/api/v1/namespaces/a/serviceaccounts/robot"),
        (false, "list", "/api/v1/namespaces/a/serviceaccounts"),
        (false, "create", "/api/v1/namespaces/a/serviceaccounts"),
        (true, "create", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"),
        (true, "delete", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"),
        (false, "list", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"),
        (true, "create", "/apis/storage.k8s.io/v1/csinodes"),
        (true, "update", "/apis/storage.k8s.io/v1/csinodes/n1"),
        (false, "update", "/apis/storage.k8s.io/v1/csinodes/n2"),
        (false, "list", "/apis/storage.k8s.io/v1/csinodes"),
        (true, "get", "/apis/storage.k8s.io/v1/volumeattachments/here"),
        (false, "get", "/apis/storage.k8s.io/v1/volumeattachments/there"),
        (false, "list", "/apis/storage.k8s.io/v1/volumeattachments"),
        (false, "list", "/apis/resource.k8s.io/v1/resourceslices"),
        (false, "create", "/apis/resource.k8s.io/v1/resourceslices"),
        (true, "create", "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
        (false, "update", "/apis/certificates.k8s.io/v1/certificatesigningrequests/x/approval"),
        (true, "create", "/apis/authentication.k8s.io/v1/tokenreviews"),
        (false, "list", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
        (false, "create", "/apis/apps/v1/namespaces/a/deployments"),
    ] {
        assert_eq!(may(&authorizer, &node, verb, path), ok, "{verb} {path}");
    }
    let status =
        authorizer.authorize(&node, &request("get", "/api/v1/namespaces/a/secrets/other")).unwrap_err();
    assert_eq!(
        status.message,
        "secrets \"other\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" \
         in the namespace \"a\": no relationship found between node 'n1' and this object"
    );
}

#[test]
fn reviews_answer_for_oneself_and_for_others() {
    let authorizer = Authorizer::new(cluster());
    let jane = User::new("jane", &["system:authenticated"]);
    let review = |kind: &str, spec: Value| json!({"kind": kind, "spec": spec});
    let pods = json!({"verb": "list", "resource": "pods", "namespace": "a"});
    let own = review("SelfSubjectAccessReview", json!({"resourceAttributes": pods}));
    assert_eq!(review::access(&authorizer, &jane, None, own).unwrap()["status"], json!({"allowed": false}));
    let spec = json!({"user": "x", "groups": ["system:masters"], "resourceAttributes": pods});
    let other = review("SubjectAccessReview", spec.clone());
    assert_eq!(review::access(&authorizer, &jane, None, other).unwrap()["status"], json!({"allowed": true}));
    let local = review("LocalSubjectAccessReview", spec);
    assert!(review::access(&authorizer, &jane, Some("a"), local.clone()).is_ok());
    assert_eq!(
        review::access(&authorizer, &jane, Some("b"), local.clone()).unwrap_err().message,
        "LocalSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes.namespace: \
         Invalid value: \"a\": must match metadata.namespace"
    );
    let mut elsewhere = local;
    elsewhere["metadata"]["namespace"] = json!("a");
    assert_eq!(review::access(&authorizer, &jane, Some("b"), elsewhere).unwrap_err().code, 400);
    let empty = review("SubjectAccessReview", json!({}));
    let status = review::access(&authorizer, &jane, None, empty).unwrap_err();
    assert_eq!((status.code, status.causes().len()), (422, 2));
    let rules = review("SelfSubjectRulesReview", json!({"namespace": "a"}));
    let status = review::rules(&authorizer, &jane, rules).unwrap()["status"].clone();
    assert_eq!(status["incomplete"], false);
    assert!(
        status["resourceRules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["resources"] == json!(["selfsubjectreviews"]))
    );
    assert!(!status["nonResourceRules"].as_array().unwrap().is_empty());
}

#[test]
fn an_allowed_review_names_the_binding() {
    let fake = cluster();
    let subjects = json!([{"kind": "ServiceAccount", "name": "robot", "namespace": "x"}]);
    let role = json!({"kind": "ClusterRole", "name": "view"});
    fake.put(
        "rolebindings.rbac.authorization.k8s.io",
        json!({"metadata": {"name": "b", "namespace": "a"}, "roleRef": role, "subjects": subjects}),
    );
    let authorizer = Authorizer::new(fake);
    let ask = |user: &str, groups: &[&str], attributes: Value| {
        let spec = json!({"user": user, "groups": groups, "resourceAttributes": attributes});
        let review = json!({"kind": "SubjectAccessReview", "spec": spec});
        review::access(&authorizer, &User::loopback(), None, review).unwrap()["status"].clone()
    };
    let pods = json!({"verb": "list", "resource": "pods", "namespace": "a"});
    assert_eq!(
        ask("system:serviceaccount:x:robot", &[], pods.clone())["reason"],
        "RBAC: allowed by RoleBinding \"b/a\" of ClusterRole \"view\" to ServiceAccount \"robot/x\""
    );
    let own =
        json!({"verb": "create", "group": "authorization.k8s.io", "resource": "selfsubjectaccessreviews"});
    assert_eq!(
        ask("jane", &["system:authenticated"], own)["reason"],
        "RBAC: allowed by ClusterRoleBinding \"system:basic-user\" of ClusterRole \"system:basic-user\" to Group \"system:authenticated\""
    );
    assert_eq!(ask("root", &["system:masters"], pods), json!({"allowed": true}));
    // A node may list its own pods, said one way or the other.
    let node = |selector: Value| {
        let attributes = json!({"verb": "list", "resource": "pods", "fieldSelector": selector});
        ask("system:node:n1", &["system:nodes"], attributes)["allowed"].clone()
    };
    let requirement = |operator: &str, value: &str| json!({"requirements": [{"key": "spec.nodeName", "operator": operator, "values": [value]}]});
    assert_eq!(node(json!({"rawSelector": "spec.nodeName=n1"})), true);
    assert_eq!(node(requirement("In", "n1")), true);
    assert_eq!(node(requirement("In", "n2")), false);
    assert_eq!(node(requirement("NotIn", "n1")), false);
}

#[test]
fn reviews_that_say_too_much_or_too_little_are_refused() {
    let authorizer = Authorizer::new(cluster());
    let ask = |mut review: Value| {
        review["kind"] = json!("SelfSubjectAccessReview");
        review::access(&authorizer, &User::loopback(), None, review).map(drop).map_err(|s| s.message)
    };
    let start = "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: ";
    let with = |selector: Value| {
        let attributes = json!({"verb": "list", "resource": "pods", "labelSelector": selector});
        ask(json!({"metadata": {"creationTimestamp": null}, "spec": {"resourceAttributes": attributes}}))
    };
    assert_eq!(with(json!({"rawSelector": "a=b"})), Ok(()));
    assert_eq!(
        with(json!({})),
        Err(format!(
            "{start}spec.resourceAttributes.labelSelector.requirements: Required value: when \
             spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required"
        ))
    );
    let both = json!({"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]});
    assert!(with(both).unwrap_err().ends_with("may not specified at the same time as requirements"));
    let named =
        json!({"metadata": {"name": "x"}, "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    assert!(ask(named).unwrap_err().ends_with("must be empty"));
}
