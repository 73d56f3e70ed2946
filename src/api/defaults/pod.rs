//! Pods and pod templates: upstream's `pkg/apis/core/v1/defaults.go`.

use serde_json::{Value, json};

use crate::api::pod_requests::aggregate;

use super::Fixed::{Bool, Int, NonZero, Object, OptionalText, Text};
use super::{Fields, Rule, fill, fixed, object, text, with};

/// Readable by all, writable by the owner: 0644.
const FILE_MODE: i64 = 0o644;

pub(super) const RULES: &[Rule] = &[
    with("core.v1.Pod", &[], pod),
    with(
        "core.v1.PodSpec",
        &[
            ("dnsPolicy", Text("ClusterFirst")),
            ("restartPolicy", Text("Always")),
            ("schedulerName", Text("default-scheduler")),
            ("securityContext", Object),
            ("terminationGracePeriodSeconds", Int(30)),
        ],
        pod_spec,
    ),
    with("core.v1.Container", CONTAINER, container),
    with("core.v1.EphemeralContainer", CONTAINER, container),
    fixed("core.v1.ContainerPort", &[("protocol", Text("TCP"))]),
    fixed(
        "core.v1.Probe",
        &[
            ("failureThreshold", NonZero(3)),
            ("periodSeconds", NonZero(10)),
            ("successThreshold", NonZero(1)),
            ("timeoutSeconds", NonZero(1)),
        ],
    ),
    fixed("core.v1.HTTPGetAction", &[("path", Text("/")), ("scheme", Text("HTTP"))]),
    fixed("core.v1.GRPCAction", &[("service", OptionalText(""))]),
    fixed("core.v1.ObjectFieldSelector", &[("apiVersion", Text("v1"))]),
    fixed("core.v1.ResourceFieldSelector", &[("divisor", Text("0"))]),
    with("core.v1.Volume", &[], volume),
    fixed("core.v1.SecretVolumeSource", &[("defaultMode", Int(FILE_MODE))]),
    fixed("core.v1.ConfigMapVolumeSource", &[("defaultMode", Int(FILE_MODE))]),
    fixed("core.v1.DownwardAPIVolumeSource", &[("defaultMode", Int(FILE_MODE))]),
    fixed("core.v1.ProjectedVolumeSource", &[("defaultMode", Int(FILE_MODE))]),
    fixed("core.v1.ServiceAccountTokenProjection", &[("expirationSeconds", Int(3600))]),
    fixed("core.v1.HostPathVolumeSource", &[("type", OptionalText(""))]),
    with("core.v1.ImageVolumeSource", &[], image_volume),
    fixed("core.v1.ISCSIVolumeSource", &[("iscsiInterface", Text("default"))]),
    fixed("core.v1.ISCSIPersistentVolumeSource", &[("iscsiInterface", Text("default"))]),
    fixed("core.v1.RBDVolumeSource", RBD),
    fixed("core.v1.RBDPersistentVolumeSource", RBD),
    fixed(
        "core.v1.AzureDiskVolumeSource",
        &[
            ("cachingMode", Text("ReadWrite")),
            ("fsType", OptionalText("ext4")),
            ("kind", Text("Shared")),
            ("readOnly", Bool(false)),
        ],
    ),
    fixed("core.v1.ScaleIOVolumeSource", SCALE_IO),
    fixed("core.v1.ScaleIOPersistentVolumeSource", SCALE_IO),
];

const CONTAINER: &[(&str, super::Fixed)] = &[
    ("resources", Object),
    ("terminationMessagePath", Text("/dev/termination-log")),
    ("terminationMessagePolicy", Text("File")),
];

const RBD: &[(&str, super::Fixed)] =
    &[("keyring", Text("/etc/ceph/keyring")), ("pool", Text("rbd")), ("user", Text("admin"))];

const SCALE_IO: &[(&str, super::Fixed)] =
    &[("fsType", Text("xfs")), ("storageMode", Text("ThinProvisioned"))];

/// What counts for pods only, not for templates: a template's limits stay as they were written.
fn pod(pod: &mut Fields) {
    let Some(spec) = object(pod, "spec") else {
        return;
    };
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers.filter_map(Value::as_object_mut) {
            if let Some(resources) = object(container, "resources") {
                fill(resources, "limits", "requests");
            }
            if on_host {
                host_ports(container);
            }
        }
    }
    spec.entry("enableServiceLinks").or_insert(true.into());
    whole_requests(spec);
}

/// A pod with limits of its own has requests: what its containers ask for, else the limits.
fn whole_requests(spec: &mut Fields) {
    let limits = spec.get("resources").map(|r| r["limits"].clone()).unwrap_or_default();
    let Some(limits) = limits.as_object().filter(|l| !l.is_empty()) else { return };
    let asked = aggregate(&Value::Object(spec.clone()));
    let Some(resources) = object(spec, "resources") else { return };
    let given = resources.get("requests").cloned().unwrap_or_else(|| json!({}));
    let Value::Object(mut requests) = given else { return };
    let whole = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    for (name, amount) in asked.into_iter().filter(|(name, _)| whole(name)) {
        requests.entry(name).or_insert_with(|| amount.to_string().into());
    }
    for (name, amount) in limits.iter().filter(|(name, _)| whole(name)) {
        requests.entry(name.as_str()).or_insert_with(|| amount.clone());
    }
    if !requests.is_empty() {
        resources.insert("requests".to_owned(), requests.into());
    }
}

fn host_ports(container: &mut Fields) {
    let ports = container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
    for port in ports.filter_map(Value::as_object_mut) {
        let unset = port.get("hostPort").is_none_or(|p| p.as_i64() == Some(0));
        if let (true, Some(number)) = (unset, port.get("containerPort").cloned()) {
            port.insert("hostPort".into(), number);
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`: each gives the other.
fn pod_spec(spec: &mut Fields) {
    for (from, to) in [("serviceAccount", "serviceAccountName"), ("serviceAccountName", "serviceAccount")] {
        let name = text(spec, from).to_owned();
        // The new name wins where both are given.
        if !name.is_empty() && (from == "serviceAccountName" || text(spec, to).is_empty()) {
            spec.insert(to.to_owned(), name.into());
        }
    }
}

fn container(container: &mut Fields) {
    if text(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(container, "image"));
        container.insert("imagePullPolicy".into(), policy.into());
    }
}

fn image_volume(volume: &mut Fields) {
    if text(volume, "pullPolicy").is_empty() {
        let policy = pull_policy(text(volume, "reference"));
        volume.insert("pullPolicy".into(), policy.into());
    }
}

/// An image whose tag is `latest`, said or not, is pulled always.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn volume(volume: &mut Fields) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
}
