use super::*;
use crate::server::auth::testing::Fake;
use crate::server::auth::user::User;

fn pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "a", "generation": 1}, "spec": {
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]}});
    change(&mut pod);
    pod
}

fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
    let (user, reader) = (User::loopback(), Fake::default());
    run(&Context { user: &user, namespace: Some("a"), reader: &reader, dry_run: false })
}

fn errors_of(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let pod = pod(change);
    with(|cx| PodStrategy.validate_create(cx, &pod)).iter().map(ToString::to_string).collect()
}

type Change = fn(&mut Value);

#[test]
fn a_good_pod_is_good() {
    assert_eq!(errors_of(|_| {}), [] as [&str; 0]);
    assert_eq!(
        errors_of(|p| {
            p["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}, {"name": "t", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]}}]);
            p["spec"]["containers"][0]["volumeMounts"] =
                json!([{"name": "v", "mountPath": "/v"}, {"name": "t", "mountPath": "/t"}]);
            p["spec"]["containers"][0]["ports"] =
                json!([{"containerPort": 80, "protocol": "TCP", "name": "http"}]);
            p["spec"]["containers"][0]["livenessProbe"] =
                json!({"httpGet": {"path": "/", "port": "http", "scheme": "HTTP"}, "successThreshold": 1});
            p["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": ""}, {"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}]);
            p["spec"]["tolerations"] =
                json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
        }),
        [] as [&str; 0]
    );
}

#[test]
fn wrong_containers_are_told_as_upstream_tells_them() {
    let table: [(Change, &[&str]); 14] = [
        (|p| p["spec"]["containers"] = json!([]), &["spec.containers: Required value"]),
        (|p| p["spec"]["containers"][0]["image"] = json!(""), &["spec.containers[0].image: Required value"]),
        (|p| p["spec"]["containers"][0]["name"] = json!(""), &["spec.containers[0].name: Required value"]),
        (
            |p| {
                let again = p["spec"]["containers"][0].clone();
                p["spec"]["containers"].as_array_mut().unwrap().push(again);
            },
            &["spec.containers[1].name: Duplicate value: \"c\""],
        ),
        (
            |p| p["spec"]["containers"][0]["imagePullPolicy"] = json!("Sometimes"),
            &[
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            |p| p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 70000, "protocol": "TCP"}]),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            |p| p["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "protocol": "tcp"}]),
            &[
                "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
        (
            |p| p["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": "/x"}]),
            &["spec.containers[0].volumeMounts[0].name: Not found: \"x\""],
        ),
        (
            |p| {
                p["spec"]["containers"][0]["resources"] =
                    json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})
            },
            &[
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            |p| p["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "-1"}}),
            &[
                "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            |p| p["spec"]["containers"][0]["env"] = json!([{"name": "A=B", "value": ""}]),
            &[
                "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ],
        ),
        (
            |p| p["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            &[
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ],
        ),
        (
            |p| p["spec"]["containers"][0]["livenessProbe"] = json!({"successThreshold": 2}),
            &[
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            |p| {
                p["spec"]["hostNetwork"] = json!(true);
                p["spec"]["containers"][0]["ports"] =
                    json!([{"containerPort": 80, "hostPort": 81, "protocol": "TCP"}]);
            },
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 80: must match `hostPort` when `hostNetwork` is true",
            ],
        ),
    ];
    for (change, wanted) in table {
        assert_eq!(errors_of(change), wanted);
    }
}

#[test]
fn wrong_specs_are_told_as_upstream_tells_them() {
    let table: [(Change, &[&str]); 8] = [
        (
            |p| p["spec"]["restartPolicy"] = json!("Never again"),
            &[
                "spec.restartPolicy: Unsupported value: \"Never again\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            ],
        ),
        (
            |p| p["spec"]["volumes"] = json!([{"name": "v"}]),
            &["spec.volumes[0]: Required value: must specify a volume type"],
        ),
        (
            |p| p["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
            &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            |p| p["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/x/../y"}}]),
            &["spec.volumes[0].hostPath.path: Invalid value: \"/x/../y\": must not contain '..'"],
        ),
        (
            |p| p["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]),
            &["spec.volumes[1].name: Duplicate value: \"v\""],
        ),
        (
            |p| p["spec"]["activeDeadlineSeconds"] = json!(0),
            &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        (
            |p| p["spec"]["tolerations"] = json!([{"operator": "Equal", "value": "x"}]),
            &[
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ],
        ),
        (
            |p| p["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]),
            &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
    ];
    for (change, wanted) in table {
        assert_eq!(errors_of(change), wanted);
    }
}

#[test]
fn a_new_pod_is_pending_with_its_class() {
    let mut new = pod(|p| p["status"] = json!({"phase": "Running"}));
    let spec = new["spec"].clone();
    with(|cx| PodStrategy.prepare_create(cx, &mut new)).unwrap();
    assert_eq!(new["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(new["spec"], spec);
}

#[test]
fn of_a_pod_little_may_change() {
    let update = |change: Change| -> Vec<String> {
        let new = pod(change);
        with(|cx| PodStrategy.validate_update(cx, &new, &pod(|_| {})))
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(update(|p| p["spec"]["containers"][0]["image"] = json!("j")), [] as [&str; 0]);
    assert_eq!(update(|p| p["spec"]["tolerations"] = json!([{"operator": "Exists"}])), [] as [&str; 0]);
    assert_eq!(update(|p| p["spec"]["activeDeadlineSeconds"] = json!(5)), [] as [&str; 0]);
    let command = update(|p| p["spec"]["containers"][0]["command"] = json!(["x"]));
    assert!(
        command[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"),
        "{command:?}"
    );
    assert!(command[0].ends_with("spec.containers[0].command: null -> [\"x\"]"), "{command:?}");
    let added = update(|p| {
        let mut other = p["spec"]["containers"][0].clone();
        other["name"] = json!("d");
        p["spec"]["containers"].as_array_mut().unwrap().push(other);
    });
    assert_eq!(added, ["spec.containers: Forbidden: pod updates may not add or remove containers"]);
}

#[test]
fn deletion_is_graceful_while_a_node_has_the_pod() {
    let on_node = |phase: &str| {
        pod(|p| {
            p["spec"]["nodeName"] = json!("n");
            p["status"] = json!({"phase": phase});
        })
    };
    let delete = |pod: &Value, grace| with(|cx| PodStrategy.begin_delete(cx, pod, grace));
    assert_eq!(delete(&on_node("Running"), None), Deletion::Graceful(30));
    assert_eq!(delete(&on_node("Running"), Some(5)), Deletion::Graceful(5));
    assert_eq!(delete(&on_node("Running"), Some(0)), Deletion::Now);
    assert_eq!(delete(&on_node("Running"), Some(-1)), Deletion::Graceful(1));
    assert_eq!(delete(&on_node("Succeeded"), None), Deletion::Now);
    assert_eq!(delete(&pod(|_| {}), None), Deletion::Now);
}

#[test]
fn a_status_update_keeps_spec_and_class() {
    let old = pod(|p| p["status"] = json!({"phase": "Pending", "qosClass": "Burstable"}));
    let mut new = pod(|p| {
        p["spec"]["nodeName"] = json!("elsewhere");
        p["status"] = json!({"phase": "Running"});
    });
    with(|cx| PodStrategy.prepare_subresource(cx, "status", &mut new, &old)).unwrap();
    assert_eq!(new["status"], json!({"phase": "Running", "qosClass": "Burstable"}));
    assert!(new["spec"].get("nodeName").is_none());
}
