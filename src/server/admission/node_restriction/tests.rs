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
    fake.put("nodes", json!({"metadata": {"name": "n1", "uid": "nu"}}));
    for (name, node) in [("mine", "n1"), ("other", "n2")] {
        fake.put(
            "pods",
            json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": {"nodeName": node}}),
        );
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
    assert!(refused(&create, labels.clone()).ends_with(
        "node \"n1\" is not allowed to set the following labels: node-restriction.kubernetes.io/x"
    ));
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
        "spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name}}})
    };
    assert_eq!(refused(&token, bound("mine")), "");
    assert!(refused(&token, bound("other")).contains("scheduled on a different node"));
    let mut anyone = request("Pod", "pods", Operation::Create, None);
    anyone.user = User::new("jane", &[]);
    assert_eq!(refused(&anyone, pod("x", "n2")), "");
}

#[test]
fn labels_of_administrators_stay_as_they_are() {
    let node = |labels: Value| json!({"metadata": {"name": "n1", "labels": labels}});
    let mut update = request("Node", "nodes", Operation::Update, None);
    update.old = Some(node(json!({"node-role.kubernetes.io/db": "", "mine": "1"})));
    assert_eq!(refused(&update, node(json!({"node-role.kubernetes.io/db": "", "mine": "2"}))), "");
    assert!(
        refused(&update, node(json!({"foo.k8s.io/a": "b"})))
            .ends_with("is not allowed to modify labels: foo.k8s.io/a, node-role.kubernetes.io/db")
    );
}

#[test]
fn a_mirror_pod_belongs_to_its_node_and_names_nothing() {
    let create = request("Pod", "pods", Operation::Create, None);
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "nu", "controller": true});
    let pod = |owners: Value, spec: Value| {
        let mut pod = json!({"metadata": {"name": "m", "namespace": "a", "ownerReferences": owners,
            "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": spec});
        pod["spec"]["nodeName"] = json!("n1");
        pod
    };
    let with = |field: &str, value: Value| {
        let mut owner = owner.clone();
        owner[field] = value;
        json!([owner])
    };
    let plain = json!({"containers": [{"name": "c"}]});
    assert_eq!(refused(&create, pod(json!([owner]), plain.clone())), "");
    for (owners, told) in [
        (json!([]), "can only create pods with an owner reference set to itself"),
        (json!([owner, owner]), "can only create pods with a single owner reference set to itself"),
        (with("name", json!("n2")), "can only create pods with an owner reference set to itself"),
        (with("controller", json!(false)), "a controller owner reference set to itself"),
        (with("blockOwnerDeletion", json!(true)), "must not set blockOwnerDeletion on an owner reference"),
        (with("uid", json!("x")), "node n1 UID mismatch: expected x got nu"),
    ] {
        let message = refused(&create, pod(owners, plain.clone()));
        assert!(message.ends_with(told), "{message}");
    }
    let source = |source: Value| json!({"volumes": [{"name": "v", "projected": {"sources": [source]}}]});
    for (spec, what) in [
        (json!({"serviceAccountName": "s"}), "a service account"),
        (source(json!({"secret": {"name": "s"}})), "secrets"),
        (json!({"containers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}]}), "configmaps"),
        (source(json!({"clusterTrustBundle": {"name": "b"}})), "clustertrustbundles"),
        (json!({"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}), "persistentvolumeclaims"),
    ] {
        let message = refused(&create, pod(json!([owner]), spec));
        assert!(message.ends_with(&format!("can not create pods that reference {what}")), "{message}");
    }
}

#[test]
fn a_status_is_all_a_node_says_of_pods_and_claims() {
    let mut status = request("Pod", "pods", Operation::Update, Some("status"));
    let pod = |labels: Value| json!({"metadata": {"name": "mine", "namespace": "a", "labels": labels}, "spec": {"nodeName": "n1"}});
    status.old = Some(pod(json!({"a": "b"})));
    assert_eq!(refused(&status, pod(json!({"a": "b"}))), "");
    assert!(refused(&status, pod(json!({}))).ends_with("cannot update labels through pod status"));
    let exec = request("Pod", "pods", Operation::Update, Some("ephemeralcontainers"));
    assert!(refused(&exec, pod(json!({}))).contains("only 'status' and 'eviction' are allowed"));
    let eviction = request("Pod", "pods", Operation::Create, Some("eviction"));
    let named = |name: &str| json!({"metadata": {"name": name, "namespace": "a"}});
    assert_eq!(refused(&eviction, named("mine")), "");
    assert!(
        refused(&eviction, named("other"))
            .ends_with("node n1 can only evict pods with spec.nodeName set to itself")
    );
    assert_eq!(refused(&eviction, named("gone")), "pods \"gone\" not found");
    let mut claim =
        request("PersistentVolumeClaim", "persistentvolumeclaims", Operation::Update, Some("status"));
    let of = |phase: &str, size: &str| json!({"metadata": {"name": "c", "namespace": "a"}, "status": {"phase": phase, "capacity": {"storage": size}}});
    claim.old = Some(of("Bound", "1Gi"));
    assert_eq!(refused(&claim, of("Bound", "2Gi")), "");
    assert!(refused(&claim, of("Lost", "1Gi")).contains("is not allowed to update fields other than"));
    let lease = Request { user: User::node("n1"), ..Request::of("coordination.k8s.io", "Lease", "leases") };
    let in_namespace =
        |namespace: &str, name: &str| json!({"metadata": {"name": name, "namespace": namespace}});
    assert_eq!(refused(&lease, in_namespace("kube-node-lease", "n1")), "");
    assert!(
        refused(&lease, in_namespace("kube-node-lease", "n2")).contains("same name as the requesting node")
    );
    assert!(refused(&lease, in_namespace("a", "n1")).contains("\"kube-node-lease\" system namespace"));
}
