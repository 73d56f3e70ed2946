use serde_json::json;

use super::*;
use crate::api::{GroupVersionKind, Schemas};

fn defaulted(api_version: &str, kind: &str, mut value: Value) -> Value {
    let id = GroupVersionKind::from_api_version(api_version, kind);
    let schema = Schemas::builtin().get(&id).expect("a built-in kind");
    schema.default(&mut value);
    let mut again = value.clone();
    schema.default(&mut again);
    assert_eq!(again, value, "defaults of {id} are stable");
    value
}

#[test]
fn every_rule_is_for_a_type_with_those_fields() {
    let any = Schemas::builtin().kinds().next().expect("built-in kinds");
    let types: HashMap<&str, NodeRef<'_>> =
        any.tree().definitions().map(|d| (short(d.name()), d.node())).collect();
    for (of, rule) in RULES.iter() {
        let node = types.get(of).unwrap_or_else(|| panic!("{of} is no type"));
        for (field, _) in rule.fixed {
            assert!(node.field(field).is_some(), "{of} has no field {field}");
        }
    }
}

#[test]
fn a_pod_is_as_upstream_would_store_it() {
    let pod = defaulted(
        "v1",
        "Pod",
        json!({"metadata": {"name": "a"}, "spec": {
            "serviceAccountName": "robot", "hostNetwork": true,
            "containers": [{
                "name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 5},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }],
            "volumes": [{"name": "e"}, {"name": "c", "configMap": {"name": "x"}}, {"name": "h", "hostPath": {"path": "/"}}],
        }}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "serviceAccountName": "robot", "serviceAccount": "robot", "hostNetwork": true,
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30, "enableServiceLinks": true,
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 5,
                    "failureThreshold": 3, "successThreshold": 1, "timeoutSeconds": 1},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}},
                {"name": "h", "hostPath": {"path": "/", "type": ""}}],
        })
    );
}

#[test]
fn a_pod_with_limits_of_its_own_has_requests() {
    let pod = json!({"spec": {"resources": {"limits": {"cpu": "4", "memory": "1Gi"}}, "containers": [
        {"name": "a", "image": "i", "resources": {"requests": {"cpu": "1"}}},
        {"name": "b", "image": "i", "resources": {"requests": {"cpu": "500m"}}}]}});
    let pod = defaulted("v1", "Pod", pod);
    assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "1500m", "memory": "1Gi"}));
    let other = json!({"spec": {"resources": {"limits": {"example.com/x": "1"}}, "containers": []}});
    assert_eq!(defaulted("v1", "Pod", other)["spec"]["resources"], json!({"limits": {"example.com/x": "1"}}));
}

#[test]
fn amounts_are_rounded_up_to_thousandths() {
    let limits = json!({"cpu": "100u", "memory": "1Gi"});
    let value =
        json!({"spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": limits}}]}});
    let pod = defaulted("v1", "Pod", value);
    let resources = &pod["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"], json!({"cpu": "1m", "memory": "1Gi"}));
}

#[test]
fn pull_policy_follows_the_tag() {
    let table = [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/a/nginx:2", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
        ("nginx:latest@sha256:0123", "Always"),
    ];
    for (image, policy) in table {
        let pod = defaulted("v1", "Pod", json!({"spec": {"containers": [{"name": "c", "image": image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn templates_keep_their_resources() {
    let value = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "c", "image": "x:1", "resources": {"limits": {"cpu": "1"}}}]}}}});
    let deployment = defaulted("apps/v1", "Deployment", value);
    let spec = &deployment["spec"];
    assert_eq!(spec["template"]["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
    assert_eq!(spec["template"]["spec"].get("enableServiceLinks"), None);
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!((&spec["replicas"], &spec["revisionHistoryLimit"]), (&json!(1), &json!(10)));
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    let recreate = defaulted(
        "apps/v1",
        "Deployment",
        json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}),
    );
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(recreate["spec"]["replicas"], 0);
}

#[test]
fn services() {
    let plain = defaulted(
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}}),
    );
    assert_eq!(
        plain["spec"],
        json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": [
            {"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "TCP", "targetPort": "web"}]})
    );
    assert_eq!(plain["status"], json!({"loadBalancer": {}}));
    let balanced = defaulted(
        "v1",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
    );
    assert_eq!(balanced["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(balanced["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(balanced["spec"]["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
    assert_eq!(balanced["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    let name = defaulted("v1", "Service", json!({"spec": {"type": "ExternalName", "externalName": "x.y"}}));
    assert_eq!(name["spec"].get("internalTrafficPolicy"), None);
}

#[test]
fn workloads() {
    let set = defaulted("apps/v1", "StatefulSet", json!({"spec": {"volumeClaimTemplates": [{"spec": {}}]}}));
    assert_eq!(
        set["spec"],
        json!({"podManagementPolicy": "OrderedReady", "replicas": 1, "revisionHistoryLimit": 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "volumeClaimTemplates": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}]})
    );
    let daemon = defaulted("apps/v1", "DaemonSet", json!({}));
    assert_eq!(
        daemon["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    );
    let job =
        defaulted("batch/v1", "Job", json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}));
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    let spec = &job["spec"];
    assert_eq!(
        (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
        (&json!(1), &json!(1), &json!(6))
    );
    assert_eq!((&spec["completionMode"], &spec["suspend"]), (&json!("NonIndexed"), &json!(false)));
    assert_eq!(spec["podReplacementPolicy"], "TerminatingOrFailed");
    let queue = defaulted("batch/v1", "Job", json!({"spec": {"parallelism": 3}}));
    assert_eq!(queue["spec"].get("completions"), None);
    let cron = defaulted("batch/v1", "CronJob", json!({"spec": {"schedule": "* * * * *"}}));
    assert_eq!(
        cron["spec"],
        json!({"schedule": "* * * * *", "concurrencyPolicy": "Allow", "suspend": false,
            "failedJobsHistoryLimit": 1, "successfulJobsHistoryLimit": 3})
    );
    let scaler = defaulted(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"behavior": {"scaleDown":
        {"selectPolicy": "Disabled"}}}}),
    );
    assert_eq!(scaler["spec"]["minReplicas"], 1);
    assert_eq!(scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    assert_eq!(scaler["spec"]["behavior"]["scaleDown"]["selectPolicy"], "Disabled");
    assert_eq!(scaler["spec"]["behavior"]["scaleUp"]["policies"][0]["value"], 4);
}

#[test]
fn the_other_kinds() {
    let secret =
        defaulted("v1", "Secret", json!({"data": {"a": "YQ=="}, "stringData": {"a": "b", "c": "d"}}));
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}}));
    let namespace = defaulted("v1", "Namespace", json!({"metadata": {"name": "n"}}));
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    assert_eq!(namespace["status"]["phase"], "Active");
    let volume = defaulted("v1", "PersistentVolume", json!({"spec": {}}));
    assert_eq!(
        volume["spec"],
        json!({"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"})
    );
    let claim = defaulted("v1", "PersistentVolumeClaim", json!({"spec": {"storageClassName": ""}}));
    assert_eq!(claim["spec"], json!({"storageClassName": "", "volumeMode": "Filesystem"}));
    let class = defaulted("storage.k8s.io/v1", "StorageClass", json!({"provisioner": "x"}));
    assert_eq!(
        (&class["reclaimPolicy"], &class["volumeBindingMode"]),
        (&json!("Delete"), &json!("Immediate"))
    );
    let policy = defaulted(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
    );
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    let binding = defaulted(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
            {"kind": "ServiceAccount", "name": "s"}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][1].get("apiGroup"), None);
    let limits = defaulted(
        "v1",
        "LimitRange",
        json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}),
    );
    assert_eq!(limits["spec"]["limits"][0]["default"], json!({"cpu": "2"}));
    assert_eq!(limits["spec"]["limits"][0]["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
    let crd = defaulted(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        json!({"spec": {"names": {"kind": "CronTab", "plural": "crontabs"}}}),
    );
    assert_eq!(crd["spec"]["names"]["singular"], "crontab");
    assert_eq!(crd["spec"]["names"]["listKind"], "CronTabList");
    assert_eq!(crd["spec"]["conversion"], json!({"strategy": "None"}));
}

#[test]
fn empty_scalars_are_left_out_where_upstreams_types_have_no_pointers() {
    let pod = json!({"metadata": {"name": "p", "generateName": ""}, "spec": {
        "hostNetwork": false, "nodeName": "", "automountServiceAccountToken": false, "priority": 0,
        "containers": [{"name": "", "image": "", "stdin": false, "env": [{"name": "A", "value": ""}],
            "securityContext": {"privileged": false}}],
    }});
    let pod = defaulted("v1", "Pod", pod);
    assert_eq!(pod["metadata"], json!({"name": "p"}));
    let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
    assert!(spec.get("hostNetwork").is_none() && spec.get("nodeName").is_none());
    assert_eq!((&spec["automountServiceAccountToken"], &spec["priority"]), (&json!(false), &json!(0)));
    assert!(container.get("image").is_none() && container.get("stdin").is_none());
    assert_eq!(container["name"], "");
    assert_eq!(container["env"], json!([{"name": "A"}]));
    assert_eq!(container["securityContext"], json!({"privileged": false}));
    let scaled = defaulted("apps/v1", "Deployment", json!({"spec": {"replicas": 0, "paused": false}}));
    assert_eq!(scaled["spec"]["replicas"], 0);
    assert!(scaled["spec"].get("paused").is_none());
}
