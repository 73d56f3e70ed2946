//! Controllers of pods: upstream's defaults of the groups apps, batch and autoscaling.

use serde_json::{Map, Value, json};

use super::Fixed::{Bool, Int, NonZero, Object, OptionalText, Text};
use super::{Fields, Rule, fill_empty, fixed, is_empty_list, object, text, with};

pub(super) const RULES: &[Rule] = &[
    fixed("apps.v1.Deployment", &[("spec", Object), ("status", Object)]),
    fixed(
        "apps.v1.DeploymentSpec",
        &[
            ("progressDeadlineSeconds", Int(600)),
            ("replicas", Int(1)),
            ("revisionHistoryLimit", Int(10)),
            ("strategy", Object),
        ],
    ),
    with("apps.v1.DeploymentStrategy", &[("type", Text("RollingUpdate"))], rolling_update),
    fixed("apps.v1.RollingUpdateDeployment", &[("maxSurge", Text("25%")), ("maxUnavailable", Text("25%"))]),
    fixed("apps.v1.ReplicaSet", &[("spec", Object), ("status", Object)]),
    fixed("apps.v1.ReplicaSetSpec", &[("replicas", Int(1))]),
    fixed("apps.v1.DaemonSet", &[("spec", Object), ("status", Object)]),
    fixed("apps.v1.DaemonSetSpec", &[("revisionHistoryLimit", Int(10)), ("updateStrategy", Object)]),
    with("apps.v1.DaemonSetUpdateStrategy", &[("type", Text("RollingUpdate"))], rolling_update),
    fixed("apps.v1.RollingUpdateDaemonSet", &[("maxSurge", Int(0)), ("maxUnavailable", Int(1))]),
    fixed("apps.v1.StatefulSet", &[("spec", Object), ("status", Object)]),
    with(
        "apps.v1.StatefulSetSpec",
        &[
            ("persistentVolumeClaimRetentionPolicy", Object),
            ("podManagementPolicy", Text("OrderedReady")),
            ("replicas", Int(1)),
            ("revisionHistoryLimit", Int(10)),
            ("updateStrategy", Object),
        ],
        claim_templates,
    ),
    with("apps.v1.StatefulSetUpdateStrategy", &[], stateful_set_update_strategy),
    fixed("apps.v1.RollingUpdateStatefulSetStrategy", &[("partition", Int(0))]),
    fixed(
        "apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy",
        &[("whenDeleted", Text("Retain")), ("whenScaled", Text("Retain"))],
    ),
    with("batch.v1.Job", &[("spec", Object), ("status", Object)], job),
    with(
        "batch.v1.JobSpec",
        &[("completionMode", OptionalText("NonIndexed")), ("suspend", Bool(false))],
        job_spec,
    ),
    fixed("batch.v1.PodFailurePolicyOnPodConditionsPattern", &[("status", Text("True"))]),
    fixed("batch.v1.CronJob", &[("spec", Object), ("status", Object)]),
    fixed(
        "batch.v1.CronJobSpec",
        &[
            ("concurrencyPolicy", Text("Allow")),
            ("failedJobsHistoryLimit", Int(1)),
            ("successfulJobsHistoryLimit", Int(3)),
            ("suspend", Bool(false)),
        ],
    ),
    fixed("autoscaling.v1.HorizontalPodAutoscaler", &[("spec", Object), ("status", Object)]),
    fixed("autoscaling.v1.HorizontalPodAutoscalerSpec", &[("minReplicas", Int(1))]),
    fixed("autoscaling.v2.HorizontalPodAutoscaler", &[("spec", Object), ("status", Object)]),
    with("autoscaling.v2.HorizontalPodAutoscalerSpec", &[("minReplicas", Int(1))], autoscaler_metrics),
    with("autoscaling.v2.HorizontalPodAutoscalerBehavior", &[], autoscaler_behavior),
    fixed("scheduling.v1.PriorityClass", &[("preemptionPolicy", OptionalText("PreemptLowerPriority"))]),
    // Counters that upstream writes even when they are zero.
    fixed("apps.v1.ReplicaSetStatus", &[("replicas", Int(0))]),
    fixed("apps.v1.StatefulSetStatus", &[("availableReplicas", Int(0)), ("replicas", Int(0))]),
    fixed(
        "apps.v1.DaemonSetStatus",
        &[
            ("currentNumberScheduled", Int(0)),
            ("desiredNumberScheduled", Int(0)),
            ("numberMisscheduled", Int(0)),
            ("numberReady", Int(0)),
        ],
    ),
    fixed(
        "autoscaling.v1.HorizontalPodAutoscalerStatus",
        &[("currentReplicas", Int(0)), ("desiredReplicas", Int(0))],
    ),
    fixed("autoscaling.v1.ScaleStatus", &[("replicas", Int(0))]),
    fixed("autoscaling.v2.HorizontalPodAutoscalerStatus", &[("desiredReplicas", Int(0))]),
    fixed("core.v1.ReplicationControllerStatus", &[("replicas", Int(0))]),
    fixed("policy.v1.PodDisruptionBudget", &[("spec", Object), ("status", Object)]),
    fixed(
        "policy.v1.PodDisruptionBudgetStatus",
        &[
            ("currentHealthy", Int(0)),
            ("desiredHealthy", Int(0)),
            ("disruptionsAllowed", Int(0)),
            ("expectedPods", Int(0)),
        ],
    ),
    fixed("flowcontrol.v1.FlowSchemaSpec", &[("matchingPrecedence", NonZero(1000))]),
    fixed(
        "flowcontrol.v1.ExemptPriorityLevelConfiguration",
        &[("lendablePercent", Int(0)), ("nominalConcurrencyShares", Int(0))],
    ),
    fixed(
        "flowcontrol.v1.LimitedPriorityLevelConfiguration",
        &[("lendablePercent", Int(0)), ("nominalConcurrencyShares", Int(30))],
    ),
    fixed(
        "flowcontrol.v1.QueuingConfiguration",
        &[("handSize", NonZero(8)), ("queueLengthLimit", NonZero(50)), ("queues", NonZero(64))],
    ),
];

fn rolling_update(strategy: &mut Fields) {
    if text(strategy, "type") == "RollingUpdate" {
        strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
    }
}

/// Templates of claims say what they are, as whole objects do.
fn claim_templates(spec: &mut Fields) {
    let templates = spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut);
    for template in templates.into_iter().flatten().filter_map(Value::as_object_mut) {
        for (field, value) in [("apiVersion", "v1"), ("kind", "PersistentVolumeClaim")] {
            if text(template, field).is_empty() {
                template.insert(field.into(), value.into());
            }
        }
    }
}

fn stateful_set_update_strategy(strategy: &mut Fields) {
    if text(strategy, "type").is_empty() {
        strategy.insert("type".into(), "RollingUpdate".into());
        strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
    }
}

/// A job without labels has its template's.
fn job(job: &mut Fields) {
    let template = job.get("spec").and_then(|s| s.pointer("/template/metadata/labels"));
    let Some(labels) = template.and_then(Value::as_object).filter(|l| !l.is_empty()).cloned() else {
        return;
    };
    let metadata = job.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        fill_empty(metadata, "labels", &labels);
    }
}

fn job_spec(spec: &mut Fields) {
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".into(), 1.into());
    }
    spec.entry("parallelism").or_insert(1.into());
    let per_index = spec.contains_key("backoffLimitPerIndex");
    spec.entry("backoffLimit").or_insert_with(|| if per_index { i32::MAX.into() } else { 6.into() });
    let replacement = if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    spec.entry("podReplacementPolicy").or_insert_with(|| replacement.into());
}

fn autoscaler_metrics(spec: &mut Fields) {
    if is_empty_list(spec, "metrics") {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec.insert(
            "metrics".into(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
        );
    }
}

fn autoscaler_behavior(behavior: &mut Fields) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let rules = [
        (
            "scaleUp",
            json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [pods, percent]}),
        ),
        ("scaleDown", json!({"selectPolicy": "Max", "policies": [percent]})),
    ];
    for (direction, defaults) in rules {
        behavior.entry(direction).or_insert_with(|| Value::Object(Map::new()));
        let Some(given) = object(behavior, direction) else {
            continue;
        };
        for (key, value) in defaults.as_object().into_iter().flatten() {
            given.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
}
