//! Columns of workloads: apps, batch, replication controllers.

use serde_json::{Value, json};

use super::pod::selector;
use super::{
    AGE, Clock, Column, NAME, NONE, UNKNOWN, human_duration, int_at, items, labels, len_at, of_containers,
    text_at,
};

const CONTAINERS: Column = Column::text("Containers", "Names of each container in the template.", |o, _| {
    of_containers(o, TEMPLATE, "name")
})
.wide();
const IMAGES: Column =
    Column::text("Images", "Images referenced by each container in the template.", |o, _| {
        of_containers(o, TEMPLATE, "image")
    })
    .wide();
const SELECTOR: Column = Column::text("Selector", "Label selector of the pods.", selector).wide();

const TEMPLATE: &str = "/spec/template/spec/containers";

/// Columns of deployments.
pub const DEPLOYMENTS: &[Column] = &[
    NAME,
    Column::text("Ready", "Number of the pod with ready state.", |o, _| {
        of_desired(o, "/status/readyReplicas")
    }),
    Column::int("Up-to-date", "Pods that have the desired template.", |o, _| {
        int_at(o, "/status/updatedReplicas").into()
    }),
    Column::int("Available", "Pods that are ready for at least minReadySeconds.", |o, _| {
        int_at(o, "/status/availableReplicas").into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// Columns of replica sets.
pub const REPLICA_SETS: &[Column] = &[
    NAME,
    Column::int("Desired", "Number of desired pods.", |o, _| int_at(o, "/spec/replicas").into()),
    Column::int("Current", "Number of pods.", |o, _| int_at(o, "/status/replicas").into()),
    Column::int("Ready", "Number of ready pods.", |o, _| int_at(o, "/status/readyReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// Columns of replication controllers, whose selector is a plain map.
pub const REPLICATION_CONTROLLERS: &[Column] = &[
    NAME,
    REPLICA_SETS[1],
    REPLICA_SETS[2],
    REPLICA_SETS[3],
    AGE,
    CONTAINERS,
    IMAGES,
    Column::text("Selector", "Label selector of the pods.", |o, _| {
        labels(o.pointer("/spec/selector")).into()
    })
    .wide(),
];

/// Columns of stateful sets.
pub const STATEFUL_SETS: &[Column] = &[
    NAME,
    Column::text("Ready", "Number of the pod with ready state.", |o, _| {
        of_desired(o, "/status/readyReplicas")
    }),
    AGE,
    CONTAINERS,
    IMAGES,
];

/// Columns of daemon sets.
pub const DAEMON_SETS: &[Column] = &[
    NAME,
    Column::int("Desired", "Nodes that should run the pod.", |o, _| {
        int_at(o, "/status/desiredNumberScheduled").into()
    }),
    Column::int("Current", "Nodes that run it and should.", |o, _| {
        int_at(o, "/status/currentNumberScheduled").into()
    }),
    Column::int("Ready", "Nodes where it is ready.", |o, _| int_at(o, "/status/numberReady").into()),
    Column::int("Up-to-date", "Nodes that run the desired template.", |o, _| {
        int_at(o, "/status/updatedNumberScheduled").into()
    }),
    Column::int("Available", "Nodes where it is available.", |o, _| {
        int_at(o, "/status/numberAvailable").into()
    }),
    Column::text("Node Selector", "Labels of the nodes it runs on.", |o, _| {
        labels(o.pointer("/spec/template/spec/nodeSelector")).into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// Columns of jobs.
pub const JOBS: &[Column] = &[
    NAME,
    Column::text("Status", "Status of the job.", |o, _| job_status(o).into()),
    Column::text("Completions", "Pods that succeeded, of those wanted.", |o, _| completions(o).into()),
    Column::text("Duration", "Time required to complete the job.", job_duration),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// Columns of cron jobs.
pub const CRON_JOBS: &[Column] =
    &[
        NAME,
        Column::text("Schedule", "The schedule in Cron format.", |o, _| o["spec"]["schedule"].clone()),
        Column::text("Timezone", "The time zone of the schedule.", |o, _| {
            text_at(o, "/spec/timeZone", NONE).into()
        }),
        Column { kind: "boolean", ..Column::text("Suspend", "No further jobs are started.", suspended) },
        Column::int("Active", "Jobs that run.", |o, _| len_at(o, "/status/active").into()),
        Column::text("Last Schedule", "When a job was last scheduled.", |o, c| {
            match &o["status"]["lastScheduleTime"] {
                Value::Null => NONE.into(),
                time => c.age(time).into(),
            }
        }),
        AGE,
        Column::text("Containers", "Names of each container in the template.", |o, _| {
            of_containers(o, CRON_TEMPLATE, "name")
        })
        .wide(),
        Column::text("Images", "Images referenced by each container in the template.", |o, _| {
            of_containers(o, CRON_TEMPLATE, "image")
        })
        .wide(),
        Column::text("Selector", "Label selector of the pods.", |o, _| {
            super::label_selector(o.pointer("/spec/jobTemplate/spec/selector")).into()
        })
        .wide(),
    ];

const CRON_TEMPLATE: &str = "/spec/jobTemplate/spec/template/spec/containers";

/// Columns of controller revisions.
pub const CONTROLLER_REVISIONS: &[Column] = &[
    NAME,
    Column::text("Controller", "Controller of the object.", |o, _| owner(o).into()),
    Column::int("Revision", "Revision number of the state.", |o, _| int_at(o, "/revision").into()),
    AGE,
];

/// Columns of horizontal pod autoscalers of `autoscaling/v1` and `v2`.
pub const AUTOSCALERS: &[Column] = &[
    NAME,
    Column::text("Reference", "What is scaled.", |o, _| {
        let target = &o["spec"]["scaleTargetRef"];
        format!("{}/{}", text_at(target, "/kind", ""), text_at(target, "/name", "")).into()
    }),
    Column::text("Targets", "Current and wanted values of the metrics.", |o, _| targets(o).into()),
    Column::text("MinPods", "Fewest pods.", |o, _| {
        o.pointer("/spec/minReplicas").map_or("<unset>".into(), |n| n.to_string().into())
    }),
    Column::int("MaxPods", "Most pods.", |o, _| int_at(o, "/spec/maxReplicas").into()),
    Column::int("Replicas", "Pods now.", |o, _| int_at(o, "/status/currentReplicas").into()),
    AGE,
];

/// Columns of pod disruption budgets.
pub const DISRUPTION_BUDGETS: &[Column] = &[
    NAME,
    Column::text("Min Available", "The minimum number of pods that must be available.", |o, _| {
        int_or_text(o, "/spec/minAvailable")
    }),
    Column::text("Max Unavailable", "The maximum number of pods that may be unavailable.", |o, _| {
        int_or_text(o, "/spec/maxUnavailable")
    }),
    Column::int("Allowed Disruptions", "Pods that may be disrupted now.", |o, _| {
        int_at(o, "/status/disruptionsAllowed").into()
    }),
    AGE,
];

fn of_desired(object: &Value, ready: &str) -> Value {
    json!(format!("{}/{}", int_at(object, ready), int_at(object, "/spec/replicas")))
}

fn int_or_text(object: &Value, pointer: &str) -> Value {
    match object.pointer(pointer) {
        Some(Value::String(s)) => json!(s),
        Some(Value::Number(n)) => json!(n.to_string()),
        _ => json!("N/A"),
    }
}

fn suspended(object: &Value, _: &Clock) -> Value {
    json!(if object["spec"]["suspend"] == true { "True" } else { "False" })
}

fn has_condition(object: &Value, kind: &str) -> bool {
    items(object, "/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True")
}

fn job_status(job: &Value) -> &'static str {
    let deleted = !job["metadata"]["deletionTimestamp"].is_null();
    match () {
        () if has_condition(job, "Complete") => "Complete",
        () if has_condition(job, "Failed") => "Failed",
        () if deleted => "Terminating",
        () if has_condition(job, "Suspended") => "Suspended",
        () if has_condition(job, "FailureTarget") => "FailureTarget",
        () if has_condition(job, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = int_at(job, "/status/succeeded");
    match job.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None => match int_at(job, "/spec/parallelism") {
            parallel @ 2.. => format!("{succeeded}/1 of {parallel}"),
            _ => format!("{succeeded}/1"),
        },
    }
}

fn job_duration(job: &Value, clock: &Clock) -> Value {
    let time = |pointer: &str| text_at(job, pointer, "").parse::<jiff::Timestamp>().ok();
    match (time("/status/startTime"), time("/status/completionTime")) {
        (None, _) => json!(""),
        (Some(start), end) => json!(human_duration(end.unwrap_or(clock.0).as_second() - start.as_second())),
    }
}

fn owner(object: &Value) -> String {
    let Some(owner) = items(object, "/metadata/ownerReferences").iter().find(|o| o["controller"] == true)
    else {
        return NONE.to_owned();
    };
    let group = text_at(owner, "/apiVersion", "").split_once('/').map_or("", |(group, _)| group);
    let kind = text_at(owner, "/kind", "").to_ascii_lowercase();
    let name = text_at(owner, "/name", "");
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}

fn targets(object: &Value) -> String {
    if let Some(wanted) = object.pointer("/spec/targetCPUUtilizationPercentage").and_then(Value::as_i64) {
        let current = object.pointer("/status/currentCPUUtilizationPercentage").and_then(Value::as_i64);
        return format!("cpu: {}/{wanted}%", current.map_or(UNKNOWN.to_owned(), |c| format!("{c}%")));
    }
    let current = items(object, "/status/currentMetrics");
    let list: Vec<String> = items(object, "/spec/metrics")
        .iter()
        .enumerate()
        .map(|(i, metric)| target(metric, current.get(i)))
        .collect();
    if list.is_empty() { NONE.to_owned() } else { list.join(", ") }
}

/// A resource metric; those of other types show their target alone.
fn target(metric: &Value, current: Option<&Value>) -> String {
    let source = match text_at(metric, "/type", "") {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        _ => "external",
    };
    let part = &metric[source];
    let current = current.map(|c| &c[source]["current"]).unwrap_or(&Value::Null);
    let name = text_at(part, "/name", "");
    let label = if name.is_empty() { String::new() } else { format!("{name}: ") };
    if let Some(wanted) = part.pointer("/target/averageUtilization").and_then(Value::as_i64) {
        let now = current["averageUtilization"].as_i64().map_or(UNKNOWN.to_owned(), |n| format!("{n}%"));
        return format!("{label}{now}/{wanted}%");
    }
    let (field, suffix) = if part.pointer("/target/averageValue").is_some() {
        ("averageValue", " (avg)")
    } else {
        ("value", "")
    };
    let wanted = text_at(&part["target"], &format!("/{field}"), UNKNOWN);
    format!("{label}{}/{wanted}{suffix}", text_at(current, &format!("/{field}"), UNKNOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Column], object: &Value) -> Vec<Value> {
        let clock = Clock("2026-01-01T01:00:00Z".parse().unwrap());
        columns.iter().map(|c| (c.cell)(object, &clock)).collect()
    }

    #[test]
    fn a_deployment() {
        let object = json!({"metadata": {"name": "d", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "d"}},
                "template": {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}},
            "status": {"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}});
        assert_eq!(json!(row(DEPLOYMENTS, &object)), json!(["d", "2/3", 1, 2, "60m", "a,b", "x,y", "app=d"]));
    }

    #[test]
    fn jobs_tell_how_they_ended_and_how_long_they_took() {
        let object = json!({"metadata": {"name": "j"}, "spec": {"completions": 2},
            "status": {"succeeded": 2, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z",
                "conditions": [{"type": "Complete", "status": "True"}]}});
        assert_eq!(json!(row(JOBS, &object)[..4]), json!(["j", "Complete", "2/2", "60s"]));
    }

    #[test]
    fn autoscalers_of_both_versions() {
        let v1 = json!({"spec": {"targetCPUUtilizationPercentage": 80}, "status": {"currentCPUUtilizationPercentage": 5}});
        assert_eq!(targets(&v1), "cpu: 5%/80%");
        let v2 = json!({"spec": {"metrics": [{"type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}});
        assert_eq!(targets(&v2), "cpu: <unknown>/80%");
    }

    #[test]
    fn a_revision_names_its_controller() {
        let object = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "x", "controller": true}]}});
        assert_eq!(owner(&object), "daemonset.apps/x");
    }
}
