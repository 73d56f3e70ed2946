//! apps, autoscaling, batch, policy.

use super::super::printers::workloads;
use super::super::views;
use super::super::{Resource, verbs};
use super::SCALE;
use crate::api::names;
use crate::api::object::SelectableField as Field;

pub(super) fn entries() -> Vec<Resource> {
    vec![
        apps("ControllerRevision", "controllerrevisions").columns(workloads::CONTROLLER_REVISIONS),
        apps("DaemonSet", "daemonsets").short(&["ds"]).all().status().columns(workloads::DAEMON_SETS),
        scaled(apps("Deployment", "deployments").short(&["deploy"])).columns(workloads::DEPLOYMENTS),
        scaled(apps("ReplicaSet", "replicasets").short(&["rs"]))
            .fields(vec![Field::new("status.replicas").or("0")])
            .columns(workloads::REPLICA_SETS),
        scaled(apps("StatefulSet", "statefulsets").short(&["sts"]))
            .names(names::dns1123_label)
            .columns(workloads::STATEFUL_SETS),
        autoscalers("v2"),
        autoscalers("v1").view(&views::AUTOSCALERS_V1),
        Resource::new("batch", "v1", "CronJob", "cronjobs")
            .short(&["cj"])
            .all()
            .status()
            .columns(workloads::CRON_JOBS),
        Resource::new("batch", "v1", "Job", "jobs")
            .all()
            .status()
            .fields(vec![Field::new("status.successful").at("status.succeeded").or("0")])
            .columns(workloads::JOBS),
        Resource::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
            .conditional_update()
            .short(&["pdb"])
            .status()
            .columns(workloads::DISRUPTION_BUDGETS),
    ]
}

fn apps(kind: &'static str, plural: &'static str) -> Resource {
    Resource::new("apps", "v1", kind, plural)
}

fn scaled(resource: Resource) -> Resource {
    resource.all().status().sub_kind("scale", SCALE, verbs::GET_PATCH_UPDATE)
}

fn autoscalers(version: &'static str) -> Resource {
    Resource::new("autoscaling", version, "HorizontalPodAutoscaler", "horizontalpodautoscalers")
        .short(&["hpa"])
        .all()
        .status()
        .columns(workloads::AUTOSCALERS)
}
