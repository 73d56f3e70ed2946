use serde_json::json;

use super::*;
use crate::server::registry::strategies::testing::{
    changed, check_table, created, defaulted, part_updated, updated, with,
};
use crate::server::registry::strategy::Strategy;

fn template(policy: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}})
}

fn workload(kind: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "d", "namespace": "a", "generation": 1}, "spec": {
        "selector": {"matchLabels": {"app": "web"}}, "template": template("Always")}})
}

fn deployment() -> Value {
    workload("Deployment")
}

fn job() -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "a", "uid": "u"},
        "spec": {"template": template("Never")}})
}

const MISMATCH: &str = "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`";

#[test]
fn wrong_deployments_are_told_as_upstream_tells_them() {
    check_table(
        &DeploymentStrategy,
        &deployment(),
        vec![
            (
                "spec/replicas",
                json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            ("spec/selector", Value::Null, &["spec.selector: Required value", MISMATCH]),
            ("spec/selector", json!({"matchLabels": {"app": "other"}}), &[MISMATCH]),
            (
                "spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                "spec/template/spec/restartPolicy",
                json!("Never"),
                &[
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                "spec/template/spec/activeDeadlineSeconds",
                json!(1),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
                ],
            ),
            (
                "spec/template/spec/containers/0/image",
                json!(""),
                &["spec.template.spec.containers[0].image: Required value"],
            ),
            (
                "spec/strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                "spec/strategy",
                json!({"type": "Recreate", "rollingUpdate": {}}),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
            (
                "spec/strategy",
                json!({"type": "Blue"}),
                &[
                    "spec.strategy: Unsupported value: {\"type\":\"Blue\"}: supported values: \"Recreate\", \"RollingUpdate\"",
                ],
            ),
            (
                "spec/minReadySeconds",
                json!(600),
                &["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
            ),
        ],
    );
}

#[test]
fn a_selector_stays() {
    let kinds: [(&str, &dyn Strategy); 3] = [
        ("Deployment", &DeploymentStrategy),
        ("ReplicaSet", &ReplicaSetStrategy),
        ("DaemonSet", &DaemonSetStrategy),
    ];
    for (kind, strategy) in kinds {
        let old = workload(kind);
        let mut new = old.clone();
        new["spec"]["selector"]["matchLabels"]["x"] = json!("y");
        new["spec"]["template"]["metadata"]["labels"]["x"] = json!("y");
        assert_eq!(
            updated(strategy, &new, &old),
            [
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}: field is immutable"
            ]
        );
        assert_eq!(updated(strategy, &old, &old), [] as [&str; 0]);
    }
}

#[test]
fn generations_count_changes_of_the_spec_and_of_a_deployments_annotations() {
    let generation = |strategy: &dyn Strategy, place: &str, value: Value| {
        let old = deployment();
        let mut new = changed(&old, place, &value);
        with(|cx| strategy.prepare_update(cx, &mut new, &old)).unwrap();
        new["metadata"]["generation"].as_i64().unwrap()
    };
    let annotations = json!({"a": "b"});
    assert_eq!(generation(&DeploymentStrategy, "metadata/labels", json!({"a": "b"})), 1);
    assert_eq!(generation(&DeploymentStrategy, "spec/replicas", json!(2)), 2);
    assert_eq!(generation(&DeploymentStrategy, "metadata/annotations", annotations.clone()), 2);
    assert_eq!(generation(&ReplicaSetStrategy, "metadata/annotations", annotations), 1);
}

#[test]
fn daemon_sets() {
    let good = workload("DaemonSet");
    let rolling = |of: Value| json!({"type": "RollingUpdate", "rollingUpdate": of});
    check_table(
        &DaemonSetStrategy,
        &good,
        vec![
            ("spec/selector", Value::Null, &[MISMATCH]),
            (
                "spec/updateStrategy",
                rolling(json!({"maxUnavailable": 0, "maxSurge": 0})),
                &[
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ],
            ),
            (
                "spec/updateStrategy",
                rolling(json!({"maxUnavailable": 1, "maxSurge": 1})),
                &[
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
                ],
            ),
            (
                "spec/updateStrategy",
                rolling(json!({"maxUnavailable": "200%"})),
                &[
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"200%\": must not be greater than 100%",
                ],
            ),
        ],
    );
    let mut new = defaulted(good);
    with(|cx| DaemonSetStrategy.prepare_create(cx, &mut new)).unwrap();
    let generation = |object: &Value| {
        object["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone()
    };
    assert_eq!(generation(&new), "1");
    let mut next = changed(&new, "spec/template/spec/containers/0/image", &json!("j"));
    with(|cx| DaemonSetStrategy.prepare_update(cx, &mut next, &new)).unwrap();
    assert_eq!((generation(&next), &next["metadata"]["generation"]), (json!("2"), &json!(2)));
}

#[test]
fn stateful_sets() {
    let mut good = workload("StatefulSet");
    good["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {}}]);
    good["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    check_table(
        &StatefulSetStrategy,
        &good,
        vec![
            ("spec/revisionHistoryLimit", json!(-1), &[]),
            (
                "spec/podManagementPolicy",
                json!("Any"),
                &["spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'"],
            ),
            (
                "spec/updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": -1, "maxUnavailable": 0}}),
                &[
                    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
                ],
            ),
            (
                "spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenDeleted": "Keep"}),
                &[
                    "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Keep\": supported values: \"Retain\", \"Delete\"",
                ],
            ),
            (
                "spec/ordinals",
                json!({"start": -1}),
                &["spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"],
            ),
        ],
    );
    let update =
        |place: &str, value: Value| updated(&StatefulSetStrategy, &changed(&good, place, &value), &good);
    assert_eq!(update("spec/replicas", json!(3)), [] as [&str; 0]);
    assert_eq!(
        update("spec/serviceName", json!("x")),
        [
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        ]
    );
    let warned = StatefulSetStrategy.warnings(&changed(&good, "spec/revisionHistoryLimit", &json!(-1)));
    assert_eq!(
        warned,
        [
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
        ]
    );
}

#[test]
fn replication_controllers_select_by_a_map() {
    let good = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "r"},
        "spec": {"selector": {"app": "web"}, "template": template("Always")}});
    check_table(
        &ReplicationControllerStrategy,
        &good,
        vec![
            ("spec/selector", json!({"app": "x"}), &[MISMATCH]),
            ("spec/template", Value::Null, &["spec.template: Required value"]),
            (
                "spec/template/spec/activeDeadlineSeconds",
                json!(1),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported",
                ],
            ),
        ],
    );
    let other = changed(&good, "spec/selector", &json!({}));
    assert_eq!(created(&ReplicationControllerStrategy, &other), [] as [&str; 0], "defaults to the labels");
}

#[test]
fn counts_of_a_status_make_sense() {
    let kinds: [(&str, &dyn Strategy); 3] = [
        ("Deployment", &DeploymentStrategy),
        ("ReplicaSet", &ReplicaSetStrategy),
        ("StatefulSet", &StatefulSetStrategy),
    ];
    for (kind, strategy) in kinds {
        let old = workload(kind);
        let status = |value: Value| part_updated(strategy, "status", &changed(&old, "status", &value), &old);
        assert_eq!(
            status(json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1})),
            [] as [&str; 0]
        );
        assert_eq!(
            status(json!({"replicas": 1, "readyReplicas": 2})),
            ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
        );
        assert_eq!(
            status(json!({"observedGeneration": -1})),
            ["status.observedGeneration: Invalid value: -1: must be greater than or equal to 0"]
        );
        let ready = if kind == "StatefulSet" { "status.readyReplicas" } else { "readyReplicas" };
        assert_eq!(
            status(json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2})),
            [format!("status.availableReplicas: Invalid value: 2: cannot be greater than {ready}")]
        );
    }
    let old = changed(&deployment(), "status", &json!({"collisionCount": 2}));
    let new = changed(&deployment(), "status", &json!({"collisionCount": 1}));
    assert_eq!(
        part_updated(&DeploymentStrategy, "status", &new, &old),
        ["status.collisionCount: Invalid value: 1: cannot be decremented"]
    );
}

#[test]
fn a_deployments_status_update_keeps_its_labels() {
    let old = changed(&deployment(), "metadata/labels", &json!({"a": "b"}));
    let mut new = changed(&old, "metadata/labels", &json!({"a": "c"}));
    new["metadata"]["annotations"] = json!({"x": "y"});
    with(|cx| DeploymentStrategy.prepare_subresource(cx, "status", &mut new, &old)).unwrap();
    assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(new["metadata"]["annotations"], json!({"x": "y"}));
}

#[test]
fn a_job_gets_a_selector_of_its_own() {
    let mut object = defaulted(job());
    with(|cx| JobStrategy.prepare_create(cx, &mut object)).unwrap();
    assert_eq!(
        object["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
    );
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    for (label, value) in [
        ("job-name", "j"),
        ("batch.kubernetes.io/job-name", "j"),
        ("controller-uid", "u"),
        ("batch.kubernetes.io/controller-uid", "u"),
    ] {
        assert_eq!(labels[label], value);
    }
    let stolen = changed(&job(), "spec/template/metadata/labels", &json!({"job-name": "other"}));
    assert_eq!(
        created(&JobStrategy, &stolen)[0],
        "spec.template.metadata.labels[job-name]: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"other\"}: must be 'j'"
    );
}

#[test]
fn wrong_jobs_are_told_as_upstream_tells_them() {
    let rule = |rule: Value| json!({"rules": [rule]});
    check_table(
        &JobStrategy,
        &job(),
        vec![
            (
                "spec/template/spec/restartPolicy",
                json!("Always"),
                &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
            ),
            ("spec/completionMode", json!("Indexed"), &[]),
            (
                "spec/backoffLimitPerIndex",
                json!(1),
                &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
            ),
            (
                "spec/managedBy",
                json!("me"),
                &[
                    "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                ],
            ),
            (
                "spec/podReplacementPolicy",
                json!("Soon"),
                &[
                    "spec.podReplacementPolicy: Unsupported value: \"Soon\": supported values: \"Failed\", \"TerminatingOrFailed\"",
                ],
            ),
            (
                "spec/podFailurePolicy",
                rule(
                    json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3, 0, 3], "containerName": "x"}}),
                ),
                &[
                    "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
                    "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered",
                ],
            ),
            (
                "spec/podFailurePolicy",
                rule(json!({"action": "Ignore"})),
                &[
                    "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
                ],
            ),
            (
                "spec/successPolicy",
                rule(json!({"succeededCount": 1})),
                &[
                    "spec.successPolicy: Invalid value: {\"rules\":[{\"succeededCount\":1}]}: requires indexed completion mode",
                ],
            ),
        ],
    );
    let mut indexed = job();
    indexed["spec"]["completionMode"] = json!("Indexed");
    indexed["spec"]["completions"] = json!(5);
    check_table(
        &JobStrategy,
        &indexed,
        vec![
            ("spec/successPolicy", rule(json!({"succeededIndexes": "0,2-3", "succeededCount": 2})), &[]),
            (
                "spec/successPolicy",
                rule(json!({"succeededIndexes": "0,2-9"})),
                &[
                    "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0,2-9\": error parsing succeededIndexes: too large index: \"9\"",
                ],
            ),
            (
                "spec/successPolicy",
                rule(json!({"succeededCount": 6})),
                &[
                    "spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
                ],
            ),
            (
                "spec/maxFailedIndexes",
                json!(6),
                &[
                    "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                    "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions",
                ],
            ),
        ],
    );
}

#[test]
fn of_a_job_little_may_change() {
    let mut old = defaulted(job());
    with(|cx| JobStrategy.prepare_create(cx, &mut old)).unwrap();
    let update =
        |old: &Value, place: &str, value: Value| updated(&JobStrategy, &changed(old, place, &value), old);
    for (place, value) in
        [("spec/parallelism", json!(3)), ("spec/suspend", json!(true)), ("spec/backoffLimit", json!(1))]
    {
        assert_eq!(update(&old, place, value), [] as [&str; 0], "{place}");
    }
    let image = update(&old, "spec/template/spec/containers/0/image", json!("j"));
    assert!(
        image[0].starts_with("spec.template: Invalid value: ") && image[0].ends_with(": field is immutable")
    );
    assert_eq!(
        update(&old, "spec/completions", json!(3)),
        ["spec.completions: Invalid value: 3: field is immutable"]
    );
    assert_eq!(update(&old, "spec/template/spec/nodeSelector", json!({"a": "b"})).len(), 1);
    let suspended = changed(&old, "spec/suspend", &json!(true));
    assert_eq!(update(&suspended, "spec/template/spec/nodeSelector", json!({"a": "b"})), [] as [&str; 0]);
    let mut indexed = changed(&old, "spec/completionMode", &json!("Indexed"));
    indexed["spec"]["completions"] = json!(2);
    assert_eq!(
        update(&indexed, "spec/completions", json!(3)),
        ["spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"]
    );
    indexed["spec"]["parallelism"] = json!(3);
    assert_eq!(update(&indexed, "spec/completions", json!(3)), [] as [&str; 0]);
}

#[test]
fn wrong_statuses_of_jobs_are_told_as_upstream_tells_them() {
    let time = |minute: u8| format!("2026-01-01T00:{minute:02}:00Z");
    let old = changed(&job(), "status", &json!({"startTime": time(1), "active": 1, "failed": 1}));
    let status = |value: Value| part_updated(&JobStrategy, "status", &changed(&old, "status", &value), &old);
    let is = |types: &[&str]| types.iter().map(|t| json!({"type": t, "status": "True"})).collect::<Vec<_>>();
    let done = json!({"startTime": time(1), "completionTime": time(2), "failed": 1, "conditions": is(&["SuccessCriteriaMet", "Complete"])});
    assert_eq!(status(done.clone()), [] as [&str; 0]);
    for (value, wanted) in [
        (
            json!({"startTime": time(1)}),
            "status.failed: Invalid value: 0: cannot decrease the failed counter",
        ),
        (
            json!({"startTime": time(1), "failed": 1, "conditions": is(&["Failed"])}),
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            changed(&done, "completionTime", &Value::Null),
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            changed(&done, "completionTime", &json!(time(0))),
            "status.completionTime: Invalid value: \"2026-01-01T00:00:00Z\": completionTime cannot be set before startTime",
        ),
        (
            changed(&done, "active", &json!(1)),
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ),
        (
            json!({"startTime": time(1), "failed": 1, "ready": 2, "active": 1}),
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
        ),
        (
            json!({"failed": 1}),
            "status.startTime: Required value: startTime cannot be removed for unsuspended job",
        ),
    ] {
        assert_eq!(status(value), [wanted]);
    }
}

#[test]
fn a_cron_job_needs_a_schedule() {
    let good = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": {
        "schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template("Never")}}}});
    check_table(
        &CronJobStrategy,
        &good,
        vec![
            ("spec/schedule", json!("@every 5m"), &[]),
            ("spec/schedule", json!(""), &["spec.schedule: Required value"]),
            (
                "spec/schedule",
                json!("* *"),
                &["spec.schedule: Invalid value: \"* *\": expected exactly 5 fields, found 2: [* *]"],
            ),
            (
                "spec/schedule",
                json!("TZ=UTC * * * * *"),
                &[
                    "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
                ],
            ),
            ("spec/timeZone", json!("Etc/UTC"), &[]),
            (
                "spec/timeZone",
                json!("Mars/Base"),
                &["spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base"],
            ),
            (
                "spec/concurrencyPolicy",
                json!("Perhaps"),
                &[
                    "spec.concurrencyPolicy: Unsupported value: \"Perhaps\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
                ],
            ),
            (
                "spec/jobTemplate/spec/selector",
                json!({}),
                &["spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated"],
            ),
            (
                "metadata/name",
                json!("a-name-that-is-much-too-long-for-the-jobs-that-will-be-called-by-it"),
                &[
                    "metadata.name: Invalid value: \"a-name-that-is-much-too-long-for-the-jobs-that-will-be-called-by-it\": must be no more than 52 characters",
                ],
            ),
        ],
    );
}

#[test]
fn autoscalers_have_bounds_metrics_and_rules() {
    let good = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let metric = |value: Value| json!([value]);
    check_table(
        &AutoscalerStrategy,
        &good,
        vec![
            (
                "spec/maxReplicas",
                json!(0),
                &[
                    "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                    "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
                ],
            ),
            (
                "spec/scaleTargetRef",
                json!({"kind": "", "name": "a/b"}),
                &[
                    "spec.scaleTargetRef.kind: Required value",
                    "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'",
                ],
            ),
            (
                "spec/metrics",
                metric(json!({"type": "Pods"})),
                &[
                    "spec.metrics[0].pods: Required value: must populate information for the given metric source",
                ],
            ),
            (
                "spec/metrics",
                metric(
                    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 0}}}),
                ),
                &[
                    "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                ],
            ),
            (
                "spec/behavior",
                json!({"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1801}], "stabilizationWindowSeconds": 3601}}),
                &[
                    "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                    "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                    "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
                ],
            ),
        ],
    );
}

#[test]
fn budgets_and_revisions() {
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {}}});
    check_table(
        &DisruptionBudgetStrategy,
        &budget,
        vec![
            (
                "spec/maxUnavailable",
                json!("10%"),
                &[
                    "spec: Invalid value: {\"maxUnavailable\":\"10%\",\"minAvailable\":1,\"selector\":{}}: minAvailable and maxUnavailable cannot be both set",
                ],
            ),
            (
                "spec/minAvailable",
                json!("110%"),
                &["spec.minAvailable: Invalid value: \"110%\": must not be greater than 100%"],
            ),
            (
                "spec/unhealthyPodEvictionPolicy",
                json!("Never"),
                &[
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
                ],
            ),
        ],
    );
    let revision = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "revision": 1, "data": {"a": 1}});
    check_table(
        &ControllerRevisionStrategy,
        &revision,
        vec![
            ("data", Value::Null, &["data: Required value: data is mandatory"]),
            ("revision", json!(-1), &["revision: Invalid value: -1: must be greater than or equal to 0"]),
        ],
    );
    let other = changed(&revision, "data", &json!({"a": 2}));
    assert_eq!(
        updated(&ControllerRevisionStrategy, &other, &revision),
        ["data: Invalid value: {\"a\":2}: field is immutable"]
    );
}
