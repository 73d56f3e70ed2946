//! Columns of volumes, claims and storage classes.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, items, text_at, texts};

/// Columns of persistent volumes.
pub const VOLUMES: &[Column] = &[
    NAME,
    Column::text("Capacity", "Size of the volume.", |o, _| text_at(o, "/spec/capacity/storage", "").into()),
    Column::text("Access Modes", "Ways the volume can be mounted.", |o, _| {
        access_modes(o, "/spec/accessModes").into()
    }),
    Column::text("Reclaim Policy", "What happens to the volume when its claim is gone.", |o, _| {
        text_at(o, "/spec/persistentVolumeReclaimPolicy", "").into()
    }),
    Column::text("Status", "Where the volume stands.", |o, _| phase(o, &o["status"]["phase"]).into()),
    Column::text("Claim", "The claim it is bound to.", |o, _| claim(o).into()),
    Column::text("StorageClass", "StorageClass of the pv", |o, _| class(o).into()),
    Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pv", |o, _| {
        text_at(o, "/spec/volumeAttributesClassName", "<unset>").into()
    }),
    Column::text("Reason", "Why it is in this state.", |o, _| text_at(o, "/status/reason", "").into()),
    AGE,
    Column::text("VolumeMode", "File system or block device.", |o, _| {
        text_at(o, "/spec/volumeMode", "<unset>").into()
    })
    .wide(),
];

/// Columns of persistent volume claims.
pub const CLAIMS: &[Column] = &[
    NAME,
    Column::text("Status", "Where the claim stands.", |o, _| phase(o, &o["status"]["phase"]).into()),
    Column::text("Volume", "The volume it is bound to.", |o, _| text_at(o, "/spec/volumeName", "").into()),
    Column::text("Capacity", "Size of the volume.", |o, _| {
        let none = if bound(o).is_null() { "" } else { "0" };
        text_at(bound(o), "/status/capacity/storage", none).into()
    }),
    Column::text("Access Modes", "Ways the volume can be mounted.", |o, _| {
        access_modes(bound(o), "/status/accessModes").into()
    }),
    Column::text("StorageClass", "StorageClass of the pvc", |o, _| class(o).into()),
    Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc", |o, _| {
        text_at(o, "/spec/volumeAttributesClassName", "<unset>").into()
    }),
    AGE,
    Column::text("VolumeMode", "File system or block device.", |o, _| {
        text_at(o, "/spec/volumeMode", "<unset>").into()
    })
    .wide(),
];

/// Columns of storage classes.
pub const CLASSES: &[Column] = &[
    Column { cell: |o, _| class_name(o).into(), ..NAME },
    Column::text("Provisioner", "What makes the volumes.", |o, _| text_at(o, "/provisioner", "").into()),
    Column::text("ReclaimPolicy", "What happens to volumes whose claim is gone.", |o, _| {
        text_at(o, "/reclaimPolicy", "Delete").into()
    }),
    Column::text("VolumeBindingMode", "When claims are bound.", |o, _| {
        text_at(o, "/volumeBindingMode", "Immediate").into()
    }),
    Column::text("AllowVolumeExpansion", "Volumes can grow.", |o, _| {
        json!(o["allowVolumeExpansion"] == true)
    }),
    AGE,
];

/// Columns of volume attributes classes.
pub const ATTRIBUTES_CLASSES: &[Column] = &[
    NAME,
    Column::text("DriverName", "The driver that knows the attributes.", |o, _| {
        text_at(o, "/driverName", "").into()
    }),
    AGE,
];

/// Columns of volume attachments.
pub const ATTACHMENTS: &[Column] = &[
    NAME,
    Column {
        format: "name",
        ..Column::text("Attacher", "What attaches the volume.", |o, _| {
            text_at(o, "/spec/attacher", "").into()
        })
    },
    Column::text("PV", "The volume.", |o, _| text_at(o, "/spec/source/persistentVolumeName", "").into()),
    Column::text("Node", "The node.", |o, _| text_at(o, "/spec/nodeName", "").into()),
    Column {
        kind: "boolean",
        ..Column::text("Attached", "It is attached.", |o, _| json!(o["status"]["attached"] == true))
    },
    AGE,
];

/// Columns of CSI nodes.
pub const CSI_NODES: &[Column] = &[
    NAME,
    Column::int("Drivers", "Drivers indicates the number of CSI drivers registered on the node", |o, _| {
        items(o, "/spec/drivers").len().into()
    }),
    AGE,
];

/// Columns of storage capacities.
pub const CAPACITIES: &[Column] = &[
    NAME,
    Column::text("StorageClassName", "The storage class.", |o, _| text_at(o, "/storageClassName", "").into()),
    Column::text("Capacity", "What is left.", |o, _| text_at(o, "/capacity", "<unset>").into()),
];

fn phase(object: &Value, phase: &Value) -> String {
    let deleted = !object["metadata"]["deletionTimestamp"].is_null();
    if deleted { "Terminating".to_owned() } else { phase.as_str().unwrap_or_default().to_owned() }
}

fn access_modes(object: &Value, pointer: &str) -> String {
    let given = texts(items(object, pointer));
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let list: Vec<&str> =
        known.iter().filter(|(mode, _)| given.contains(mode)).map(|(_, short)| *short).collect();
    list.join(",")
}

fn claim(volume: &Value) -> String {
    match (text_at(volume, "/spec/claimRef/namespace", ""), text_at(volume, "/spec/claimRef/name", "")) {
        (_, "") => String::new(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

const CLASS_ANNOTATION: &str = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";

fn class(object: &Value) -> &str {
    text_at(object, CLASS_ANNOTATION, text_at(object, "/spec/storageClassName", ""))
}

/// The claim, if it is bound: before that it has no size.
fn bound(claim: &Value) -> &Value {
    if text_at(claim, "/spec/volumeName", "").is_empty() { &Value::Null } else { claim }
}

fn class_name(class: &Value) -> String {
    let name = text_at(class, "/metadata/name", "");
    let annotation = |prefix: &str| {
        class["metadata"]["annotations"][format!("{prefix}.kubernetes.io/is-default-class").as_str()]
            == "true"
    };
    if annotation("storageclass") || annotation("storageclass.beta") {
        format!("{name} (default)")
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::registry::Clock;

    fn row(columns: &[Column], object: &Value) -> Value {
        let clock = Clock("2026-01-01T01:00:00Z".parse().unwrap());
        columns.iter().map(|c| (c.cell)(object, &clock)).collect()
    }

    #[test]
    fn a_bound_claim() {
        let claim = json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v", "storageClassName": "local"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}});
        assert_eq!(
            row(CLAIMS, &claim),
            json!(["c", "Bound", "v", "1Gi", "RWO,RWX", "local", "<unset>", "<unknown>", "<unset>"])
        );
    }

    #[test]
    fn the_default_class_is_marked() {
        let class = json!({"metadata": {"name": "c", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "p"});
        assert_eq!(row(&CLASSES[..4], &class), json!(["c (default)", "p", "Delete", "Immediate"]));
    }

    #[test]
    fn a_volume_names_its_claim() {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "a", "name": "c"},
            "capacity": {"storage": "1Gi"}}, "status": {"phase": "Bound"}});
        assert_eq!(row(VOLUMES, &volume)[5], "a/c");
    }
}
