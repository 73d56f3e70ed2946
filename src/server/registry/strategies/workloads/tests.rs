use super::batch::{CronJobStrategy, JobStrategy};
use super::*;
use crate::server::auth::testing::Fake;
use crate::server::auth::user::User;
use serde_json::json;

fn template(policy: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "restartPolicy": policy, "dnsPolicy": "ClusterFirst",
        "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]}})
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d", "namespace": "a", "generation": 1}, "spec": {
        "replicas": 1, "progressDeadlineSeconds": 600, "selector": {"matchLabels": {"app": "web"}},
        "podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": template("Always")}})
}

fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
    let (user, reader) = (User::loopback(), Fake::default());
    run(&Context { user: &user, namespace: Some("a"), reader: &reader, dry_run: false })
}

fn created(strategy: &dyn Strategy, object: &Value) -> Vec<String> {
    with(|cx| strategy.validate_create(cx, object)).iter().map(ToString::to_string).collect()
}

fn updated(strategy: &dyn Strategy, new: &Value, old: &Value) -> Vec<String> {
    with(|cx| strategy.validate_update(cx, new, old)).iter().map(ToString::to_string).collect()
}

type Change = fn(&mut Value);

#[test]
fn wrong_deployments_are_told_as_upstream_tells_them() {
    assert_eq!(created(&Workload::Deployment, &deployment()), [] as [&str; 0]);
    let table: [(Change, &[&str]); 8] = [
        (
            |s| s["replicas"] = json!(-1),
            &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (|s| s["selector"] = json!(null), &["spec.selector: Required value"]),
        (
            |s| s["selector"] = json!({"matchLabels": {"app": "other"}}),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            |s| s["selector"] = json!({"matchLabels": {}}),
            &["spec.selector: Invalid value: {\"matchLabels\":{}}: empty selector is invalid for deployment"],
        ),
        (
            |s| s["template"]["spec"]["restartPolicy"] = json!("Never"),
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
        ),
        (
            |s| s["template"]["spec"]["containers"][0]["image"] = json!(""),
            &["spec.template.spec.containers[0].image: Required value"],
        ),
        (
            |s| s["strategy"]["rollingUpdate"] = json!({"maxSurge": 0, "maxUnavailable": 0}),
            &[
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ],
        ),
        (
            |s| s["strategy"]["type"] = json!("Recreate"),
            &[
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        ),
    ];
    for (change, wanted) in table {
        let mut object = deployment();
        change(&mut object["spec"]);
        assert_eq!(created(&Workload::Deployment, &object), wanted);
    }
}

#[test]
fn a_selector_stays() {
    let mut new = deployment();
    new["spec"]["selector"]["matchLabels"]["x"] = json!("y");
    new["spec"]["template"]["metadata"]["labels"]["x"] = json!("y");
    for workload in [Workload::Deployment, Workload::ReplicaSet, Workload::DaemonSet] {
        assert_eq!(
            updated(&workload, &new, &deployment()),
            [
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}: field is immutable"
            ]
        );
    }
    assert_eq!(updated(&Workload::Deployment, &deployment(), &deployment()), [] as [&str; 0]);
}

#[test]
fn generations_count_changes_of_the_spec_and_of_a_deployments_annotations() {
    let generation = |workload: Workload, change: Change| {
        let mut new = deployment();
        change(&mut new);
        with(|cx| workload.prepare_update(cx, &mut new, &deployment())).unwrap();
        new["metadata"]["generation"].as_i64().unwrap()
    };
    assert_eq!(generation(Workload::Deployment, |_| {}), 1);
    assert_eq!(generation(Workload::Deployment, |d| d["spec"]["replicas"] = json!(2)), 2);
    let annotate: Change = |d| d["metadata"]["annotations"] = json!({"a": "b"});
    assert_eq!(generation(Workload::Deployment, annotate), 2);
    assert_eq!(generation(Workload::ReplicaSet, annotate), 1);
}

#[test]
fn of_a_stateful_set_only_some_fields_may_change() {
    let mut new = deployment();
    new["spec"]["replicas"] = json!(3);
    assert_eq!(updated(&StatefulSetStrategy, &new, &deployment()), [] as [&str; 0]);
    new["spec"]["serviceName"] = json!("x");
    let errors = updated(&StatefulSetStrategy, &new, &deployment());
    assert!(
        errors[0]
            .starts_with("spec: Forbidden: updates to statefulset spec for fields other than 'replicas'"),
        "{errors:?}"
    );
}

#[test]
fn counts_of_a_status_make_sense() {
    let bad = json!({"status": {"replicas": 1, "readyReplicas": 2}});
    let errors = with(|cx| Workload::ReplicaSet.validate_subresource(cx, "status", &bad, &bad));
    assert_eq!(
        errors[0].to_string(),
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    );
}

#[test]
fn a_job_gets_a_selector_of_its_own() {
    let job = |policy: &str| json!({"metadata": {"name": "j", "namespace": "a", "uid": "u"}, "spec": {"template": template(policy)}});
    let mut object = job("Never");
    with(|cx| JobStrategy.prepare_create(cx, &mut object)).unwrap();
    assert_eq!(
        object["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
    );
    assert_eq!(object["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    assert_eq!(created(&JobStrategy, &object), [] as [&str; 0]);
    let mut always = job("Always");
    with(|cx| JobStrategy.prepare_create(cx, &mut always)).unwrap();
    assert_eq!(
        created(&JobStrategy, &always),
        ["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]
    );
    let mut changed = object.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
    assert!(updated(&JobStrategy, &changed, &object)[0].ends_with("field is immutable"));
    let mut more = object.clone();
    more["spec"]["parallelism"] = json!(3);
    assert_eq!(updated(&JobStrategy, &more, &object), [] as [&str; 0]);
}

#[test]
fn a_cron_job_needs_a_schedule() {
    let cron = |schedule: &str| {
        json!({"metadata": {"name": "c"}, "spec": {"schedule": schedule, "concurrencyPolicy": "Allow",
        "jobTemplate": {"spec": {"template": template("Never")}}}})
    };
    for good in ["* * * * *", "*/5 1-3 1,2 JAN ?", "@hourly", "@every 5m"] {
        assert_eq!(created(&CronJobStrategy, &cron(good)), [] as [&str; 0], "{good}");
    }
    assert_eq!(created(&CronJobStrategy, &cron("")), ["spec.schedule: Required value"]);
    assert_eq!(
        created(&CronJobStrategy, &cron("* *")),
        ["spec.schedule: Invalid value: \"* *\": expected exactly 5 fields, found 2: [* *]"]
    );
    assert!(created(&CronJobStrategy, &cron("@never"))[0].contains("unrecognized descriptor"));
}
