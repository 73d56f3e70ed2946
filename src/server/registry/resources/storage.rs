//! storage.k8s.io.

use super::super::Resource;
use super::super::printers::{cluster, storage};

pub(super) fn entries() -> Vec<Resource> {
    vec![
        entry("CSIDriver", "csidrivers").cluster().conditional_update().columns(cluster::CSI_DRIVERS),
        entry("CSINode", "csinodes").cluster().conditional_update().columns(storage::CSI_NODES),
        entry("CSIStorageCapacity", "csistoragecapacities").conditional_update().columns(storage::CAPACITIES),
        entry("StorageClass", "storageclasses").cluster().short(&["sc"]).columns(storage::CLASSES),
        entry("VolumeAttachment", "volumeattachments")
            .cluster()
            .conditional_update()
            .status()
            .columns(storage::ATTACHMENTS),
        entry("VolumeAttributesClass", "volumeattributesclasses")
            .cluster()
            .short(&["vac"])
            .columns(storage::ATTRIBUTES_CLASSES),
    ]
}

fn entry(kind: &'static str, plural: &'static str) -> Resource {
    Resource::new("storage.k8s.io", "v1", kind, plural)
}
