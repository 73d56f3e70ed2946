//! Why a volume cannot be had, in the words of kubelet's events.

use serde::Serialize;

/// A volume that cannot be had now; the text is the event's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetUpError {
    /// A step of making it failed.
    #[error("{step} failed for volume \"{volume}\" : {problem}")]
    Step {
        /// Upstream's name of the step.
        step: &'static str,
        /// Name of the volume, or of the PersistentVolume.
        volume: String,
        /// What is wrong.
        problem: String,
    },
    /// Its claim cannot be used.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], \
         failed to process volumes=[{volume}]: {problem}"
    )]
    Claim {
        /// The volume's name.
        volume: String,
        /// What is wrong.
        problem: String,
    },
}

impl SetUpError {
    /// The event's reason.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Step { step, .. } if step.starts_with("MapVolume") => "FailedMapVolume",
            _ => "FailedMount",
        }
    }
}

/// Why one volume cannot be had, before its name is added.
pub(super) enum Failed {
    SetUp(String),
    Claim(String),
    Step { step: &'static str, volume: String, problem: String },
}

impl From<String> for Failed {
    fn from(problem: String) -> Self {
        Self::SetUp(problem)
    }
}

impl Failed {
    /// With the volume's name.
    pub(super) fn of(self, volume: &str) -> SetUpError {
        let volume = volume.to_owned();
        match self {
            Self::SetUp(problem) => SetUpError::Step { step: "MountVolume.SetUp", volume, problem },
            Self::Claim(problem) => SetUpError::Claim { volume, problem },
            Self::Step { step, volume, problem } => SetUpError::Step { step, volume, problem },
        }
    }
}

/// What a volume is that this node cannot have: the one field that names its source.
pub(super) fn unsupported(volume: &impl Serialize) -> String {
    const ASIDE: [&str; 10] = [
        "name",
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut fields = value.as_object().into_iter().flatten();
    let Some((kind, source)) = fields.find(|(k, _)| !ASIDE.contains(&k.as_str())) else {
        return "the volume has no source".into();
    };
    if kind == "csi" {
        let driver = source["driver"].as_str().unwrap_or_default();
        return format!(
            "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {driver} not found in the \
             list of registered CSI drivers"
        );
    }
    let instead = match kind.as_str() {
        "gitRepo" => "clone the repository into an emptyDir volume in an init container",
        "image" => "copy the files into an emptyDir volume in an init container that runs the image",
        _ => {
            "mount it on the node and name the directory in a hostPath volume or in a local PersistentVolume"
        }
    };
    format!("volumes of kind {kind} are not supported by this node: {instead}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PersistentVolumeSpec, Volume};
    use serde_json::json;

    #[test]
    fn what_is_not_supported_is_named() {
        let of = |source: serde_json::Value| {
            let mut volume = json!({"name": "v"});
            volume.as_object_mut().expect("an object").extend(source.as_object().expect("an object").clone());
            unsupported(&serde_json::from_value::<Volume>(volume).expect("a volume"))
        };
        for (source, start) in [
            (json!({"nfs": {"server": "s", "path": "/"}}), "volumes of kind nfs are not supported"),
            (json!({"image": {"reference": "r"}}), "volumes of kind image are not supported"),
            (
                json!({"csi": {"driver": "d.io"}}),
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name d.io not found",
            ),
            (json!({}), "the volume has no source"),
        ] {
            assert!(of(source.clone()).starts_with(start), "{source}: {}", of(source.clone()));
        }
        let volume: PersistentVolumeSpec = serde_json::from_value(json!({"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "volumeMode": "Filesystem",
            "iscsi": {"targetPortal": "t", "iqn": "i", "lun": 0}}))
        .expect("a volume");
        assert!(unsupported(&volume).starts_with("volumes of kind iscsi"), "{}", unsupported(&volume));
    }

    #[test]
    fn errors_are_upstreams_events() {
        let error = Failed::SetUp("configmap \"c\" not found".into()).of("v");
        assert_eq!(
            error.to_string(),
            "MountVolume.SetUp failed for volume \"v\" : configmap \"c\" not found"
        );
        let error = Failed::Claim("error processing PVC ns/c: PVC is not bound".into()).of("v");
        assert_eq!(
            (error.reason(), error.to_string().as_str()),
            (
                "FailedMount",
                "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], \
                 failed to process volumes=[v]: error processing PVC ns/c: PVC is not bound"
            )
        );
    }
}
