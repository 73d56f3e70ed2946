use serde_json::json;

use super::*;
use crate::server::registry::strategies::testing::{
    changed, created, defaulted, part_updated, updated, with,
};

fn pod() -> Value {
    defaulted(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "generation": 1},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}),
    )
}

fn on_node(status: Value) -> Value {
    let pod = changed(&pod(), "spec/nodeName", &json!("n"));
    changed(&pod, "status", &status)
}

#[test]
fn a_new_pod_is_pending_with_its_class() {
    let mut new = changed(&pod(), "status", &json!({"phase": "Running"}));
    let spec = new["spec"].clone();
    with(|cx| PodStrategy.prepare_create(cx, &mut new)).unwrap();
    assert_eq!(new["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!((&new["spec"], &new["metadata"]["generation"]), (&spec, &json!(1)));
}

#[test]
fn what_only_new_pods_may_not_have() {
    let gated = changed(&on_node(Value::Null), "spec/schedulingGates", &json!([{"name": "g"}]));
    assert_eq!(
        created(&PodStrategy, &gated),
        ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]
    );
    let debugged = changed(&pod(), "spec/ephemeralContainers", &json!([{"name": "e", "image": "i"}]));
    assert_eq!(
        created(&PodStrategy, &debugged),
        ["spec.ephemeralContainers: Forbidden: cannot be set on create"]
    );
}

#[test]
fn of_a_pod_little_may_change() {
    let update = |place: &str, value: Value| updated(&PodStrategy, &changed(&pod(), place, &value), &pod());
    for (place, value) in [
        ("spec/containers/0/image", json!("j")),
        ("spec/tolerations", json!([{"operator": "Exists"}])),
        ("spec/activeDeadlineSeconds", json!(5)),
        ("metadata/labels", json!({"a": "b"})),
    ] {
        assert_eq!(update(place, value), [] as [&str; 0], "{place}");
    }
    let command = update("spec/containers/0/command", json!(["x"]));
    assert_eq!(
        command,
        ["spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
            `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
            existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
            previously negative)\n  spec.containers[0].command: null -> [\"x\"]"]
    );
    let two = json!([{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]);
    assert_eq!(
        update("spec/containers", two),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let gates = update("spec/schedulingGates", json!([{"name": "g"}]));
    assert_eq!(
        gates,
        [
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"
        ]
    );
    let mirror = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(
        update("metadata/annotations", mirror)[1],
        "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"
    );
}

#[test]
fn deadlines_and_tolerations_are_tightened_only() {
    let old = changed(&pod(), "spec/activeDeadlineSeconds", &json!(10));
    let update =
        |value: Value| updated(&PodStrategy, &changed(&old, "spec/activeDeadlineSeconds", &value), &old);
    assert_eq!(update(json!(5)), [] as [&str; 0]);
    assert_eq!(
        update(json!(11)),
        ["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"]
    );
    assert_eq!(
        update(Value::Null),
        [
            "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"
        ]
    );
    let tolerating = |list: Value| changed(&pod(), "spec/tolerations", &list);
    let old = tolerating(
        json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
    );
    let longer = json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}]);
    assert_eq!(updated(&PodStrategy, &tolerating(longer), &old), [] as [&str; 0]);
    assert_eq!(
        updated(&PodStrategy, &tolerating(json!([])), &old),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    let negative = changed(&pod(), "spec/terminationGracePeriodSeconds", &json!(-5));
    let one = changed(&pod(), "spec/terminationGracePeriodSeconds", &json!(1));
    assert_eq!(updated(&PodStrategy, &one, &negative), [] as [&str; 0]);
    assert_eq!(updated(&PodStrategy, &one, &pod()).len(), 1);
}

#[test]
fn a_gated_pod_is_narrowed_only() {
    let gated = changed(&pod(), "spec/schedulingGates", &json!([{"name": "g"}]));
    let old = changed(&gated, "spec/nodeSelector", &json!({"a": "b"}));
    let update = |place: &str, value: Value| updated(&PodStrategy, &changed(&old, place, &value), &old);
    assert_eq!(update("spec/nodeSelector", json!({"a": "b", "c": "d"})), [] as [&str; 0]);
    assert_eq!(update("spec/schedulingGates", json!([])), [] as [&str; 0]);
    assert_eq!(
        update("spec/nodeSelector", json!({"a": "c"})),
        [
            "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        ]
    );
    let terms = |terms: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    let one = json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]});
    assert_eq!(update("spec/affinity", terms(json!([one]))), [] as [&str; 0]);
    let old = changed(&old, "spec/affinity", &terms(json!([one])));
    let update = |value: Value| updated(&PodStrategy, &changed(&old, "spec/affinity", &value), &old);
    let more =
        json!({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]});
    assert_eq!(update(terms(json!([more]))), [] as [&str; 0]);
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    assert_eq!(
        update(terms(json!([one, one])))[0],
        format!(
            "{at}: Invalid value: {}: no additions/deletions to non-empty NodeSelectorTerms list are allowed",
            json!([one, one])
        )
    );
    let other = json!({"matchExpressions": [{"key": "b", "operator": "Exists"}]});
    assert!(update(terms(json!([other])))[0].starts_with(&format!("{at}[0]: Invalid value: ")));
}

#[test]
fn deletion_is_graceful_while_a_node_has_the_pod() {
    let delete = |pod: &Value, grace| with(|cx| PodStrategy.begin_delete(cx, pod, grace));
    let running = on_node(json!({"phase": "Running"}));
    assert_eq!(delete(&running, None), Deletion::Graceful(30));
    assert_eq!(delete(&running, Some(5)), Deletion::Graceful(5));
    assert_eq!(delete(&running, Some(0)), Deletion::Now);
    assert_eq!(delete(&running, Some(-1)), Deletion::Graceful(1));
    assert_eq!(delete(&on_node(json!({"phase": "Succeeded"})), None), Deletion::Now);
    assert_eq!(delete(&pod(), None), Deletion::Now);
}

#[test]
fn a_status_update_keeps_spec_class_owners_and_generations() {
    let old = changed(
        &on_node(json!({"phase": "Pending", "qosClass": "Burstable", "observedGeneration": 2,
        "conditions": [{"type": "Ready", "status": "False", "observedGeneration": 2}]})),
        "metadata/ownerReferences",
        &json!([{"name": "o"}]),
    );
    let mut new = changed(
        &pod(),
        "status",
        &json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
    );
    new["metadata"]["annotations"] = json!({"a": "b"});
    with(|cx| PodStrategy.prepare_subresource(cx, "status", &mut new, &old)).unwrap();
    assert_eq!(
        new["status"],
        json!({"phase": "Running", "qosClass": "Burstable", "observedGeneration": 2,
            "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2}]})
    );
    assert_eq!(new["spec"]["nodeName"], "n");
    assert_eq!(new["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(new["metadata"]["ownerReferences"], json!([{"name": "o"}]));
}

#[test]
fn wrong_statuses_are_told_as_upstream_tells_them() {
    let old = on_node(json!({"phase": "Running", "qosClass": "BestEffort",
        "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]}));
    let mut never = old.clone();
    never["spec"]["restartPolicy"] = json!("Never");
    let status =
        |value: Value| part_updated(&PodStrategy, "status", &changed(&never, "status", &value), &never);
    assert_eq!(status(json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]})), [] as [&str; 0]);
    for (value, wanted) in [
        (
            json!({"qosClass": "Guaranteed"}),
            "status.qosClass: Invalid value: \"Guaranteed\": field is immutable",
        ),
        (
            json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]}),
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
        ),
        (
            json!({"podIPs": [{"ip": "x"}]}),
            "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family",
        ),
        (
            json!({"hostIP": "10.0.0.2", "hostIPs": [{"ip": "10.0.0.1"}]}),
            "status.hostIPs[0].ip: Invalid value: \"10.0.0.1\": must be equal to `hostIP`",
        ),
    ] {
        assert_eq!(status(value), [wanted]);
    }
    let restarted = changed(&old, "status/containerStatuses/0/state", &json!({"running": {}}));
    assert_eq!(part_updated(&PodStrategy, "status", &restarted, &old), [] as [&str; 0]);
}

#[test]
fn ephemeral_containers_are_added_and_stay() {
    let with_debugger = |list: Value| changed(&on_node(Value::Null), "spec/ephemeralContainers", &list);
    let old = with_debugger(json!([{"name": "e", "image": "i"}]));
    let update = |list: Value| part_updated(&PodStrategy, "ephemeralcontainers", &with_debugger(list), &old);
    assert_eq!(
        update(json!([{"name": "f", "image": "i", "targetContainerName": "c"}, {"name": "e", "image": "i"}])),
        [] as [&str; 0]
    );
    assert_eq!(
        update(json!([])),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"]
    );
    assert_eq!(
        update(json!([{"name": "e", "image": "j", "imagePullPolicy": "Always"}])),
        [
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be changed\n  e.image: \"i\" -> \"j\""
        ]
    );
    let e = json!({"name": "e", "image": "i"});
    assert_eq!(
        update(
            json!([e, {"name": "c", "image": "i", "ports": [{"containerPort": 1}], "targetContainerName": "x"}])
        ),
        [
            "spec.ephemeralContainers[1].name: Duplicate value: \"c\"",
            "spec.ephemeralContainers[1].targetContainerName: Not found: \"x\"",
            "spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container",
        ]
    );
    let mut new = with_debugger(json!([e, {"name": "f", "image": "i"}]));
    new["metadata"]["labels"] = json!({"a": "b"});
    with(|cx| PodStrategy.prepare_subresource(cx, "ephemeralcontainers", &mut new, &old)).unwrap();
    assert_eq!((&new["metadata"]["generation"], new["metadata"].get("labels")), (&json!(2), None));
}

#[test]
fn a_resize_changes_processors_and_memory() {
    let sized =
        |requests: Value| changed(&pod(), "spec/containers/0/resources", &json!({"requests": requests}));
    let old = sized(json!({"cpu": "1", "memory": "1Gi"}));
    let resize = |requests: Value| part_updated(&PodStrategy, "resize", &sized(requests), &old);
    assert_eq!(resize(json!({"cpu": "2", "memory": "512Mi"})), [] as [&str; 0]);
    assert_eq!(
        resize(json!({"cpu": "2"})),
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
    assert_eq!(
        resize(json!({"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"})),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    let limited = changed(&old, "spec/containers/0/resources/limits", &json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(
        part_updated(&PodStrategy, "resize", &limited, &old)[0],
        "spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing"
    );
    let running =
        changed(&old, "status", &json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]}));
    assert_eq!(
        part_updated(&PodStrategy, "resize", &running, &running),
        ["spec: Forbidden: Pod running on node without support for resize"]
    );
    let mut new = sized(json!({"cpu": "3", "memory": "1Gi"}));
    new["spec"]["containers"][0]["image"] = json!("other");
    with(|cx| PodStrategy.prepare_subresource(cx, "resize", &mut new, &old)).unwrap();
    assert_eq!(new["spec"]["containers"][0]["image"], "i");
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn warnings_are_upstreams() {
    let pod = |spec: Value| json!({"metadata": {"name": "p", "annotations": {"scheduler.alpha.kubernetes.io/critical-pod": "x"}}, "spec": spec});
    let spec = json!({
        "nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}],
        "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}],
        "terminationGracePeriodSeconds": -1,
        "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
        "volumes": [{"name": "g", "gitRepo": {}}],
        "containers": [{"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}],
            "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP", "hostPort": 81}],
            "resources": {"limits": {"memory": "100m"}}}]});
    assert_eq!(
        warnings::of_pod(&pod(spec)),
        [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead",
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\"",
            "spec.imagePullSecrets[1].name: duplicate name \"a\"",
            "spec.imagePullSecrets[2].name: invalid empty name \"\"",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ]
    );
    let mut dotted = json!({"metadata": {"name": "a.b"}, "spec": {}});
    assert_eq!(
        warnings::of_pod(&dotted),
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"
        ]
    );
    dotted["spec"] = json!({"dnsConfig": {"nameservers": ["FD00::1"]}});
    assert_eq!(
        warnings::of_template(&dotted, &crate::api::Path::new("spec").child("template")),
        [
            "spec.template.spec.dnsConfig.nameservers[0]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")"
        ]
    );
}
